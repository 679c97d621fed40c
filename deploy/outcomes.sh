#!/bin/sh
# What came out of ./dev faults: gathered while it runs, shown in the terminal, kept for the page.
#
#   outcomes.sh origin                what is run: the commit and the day
#   outcomes.sh gather <LOG           the lines with which a run of the features closes
#   outcomes.sh table <GATHERED       fault x backend x outcome
#   outcomes.sh is_whole <GATHERED    whether both kinds of servers came to their end
#   outcomes.sh record GATHERED       writes docs/outcomes.txt, and from it docs/guarantee.md
set -eu
cd "$(dirname -- "$0")/.."

# What a run itself writes is no change.
origin() {
    commit=$(git rev-parse --short HEAD 2>/dev/null) || commit=unknown
    if [ "$commit" != unknown ] &&
        [ -n "$(git status --porcelain -- . ':!docs/outcomes.txt' ':!docs/guarantee.md')" ]; then
        commit=$commit-dirty
    fi
    printf 'commit: %s\ndate: %s\n' "$commit" "$(date -u +%F)"
}

# Each line with its backend. A run in which features were missing says nothing of scenarios.
gather() {
    awk '
        /^acceptance: backend / {
            backend = $3
            sub(/^[^(]*\(/, "")
            sub(/\)$/, "")
            print "servers on " backend ": " $0
        }
        /^(planted|crash moments): / { sub(":", " on " backend ":"); print }
        $1 == "planted" { is_planted = 1 }
        /^[0-9]+ scenarios ran, and there must be / || /^a feature could not be read/ { is_part = 1 }
        /^acceptance: [0-9]+ passed, [0-9]+ failed$/ && !is_planted && !is_part {
            sub("acceptance:", "scenarios on " backend ":")
            print
        }
        /^fault /'
}

table() {
    awk '
        $1 == "fault" {
            id = $2
            elsewhere = sub(":", "", id)
            if (!(id in seen)) { seen[id]; order[++faults] = id }
            if (elsewhere) {
                text[id] = substr($0, index($0, ": ") + 2)
            } else {
                sub(":", "", $4)
                outcome[id, $4] = $7 > 0 ? $7 " failed" : $5 " passed"
                ran[id]
            }
        }
        $1 == "planted" || $1 == "crash" { closing[++lines] = $0 }
        function cell(fault, backend) {
            return (fault, backend) in outcome ? outcome[fault, backend] : "-"
        }
        END {
            if (!faults) exit
            printf "\n%-6s %-12s %s\n", "fault", "processes", "containers"
            for (n = 1; n <= faults; n++) {
                if (!(order[n] in ran)) printf "%-6s %s\n", order[n], text[order[n]]
                else printf "%-6s %-12s %s\n", order[n], cell(order[n], "local"), cell(order[n], "docker")
            }
            for (n = 1; n <= lines; n++) print closing[n]
        }'
}

is_whole() {
    [ "$(sort -u | grep -cE '^(servers|scenarios|crash moments|planted) on (local|docker): ')" = 8 ]
}

# The head first; the rest is sorted, so that two runs can be compared.
record() { # GATHERED
    for part in '(commit|date):' 'servers on ' '(scenarios|crash moments|planted) on ' \
        'fault [A-Z0-9]+ on '; do
        grep -E "^$part" "$1" | LC_ALL=C sort -uV
    done >docs/outcomes.txt
    page=$(cargo test --workspace --locked --quiet --test acceptance -- --guarantee)
    printf '%s\n' "$page" >docs/guarantee.md
}

case "${1:-}" in
    origin | gather | table | is_whole | record) "$@" ;;
    *)
        sed -n '2,/^set/ s/^# \{0,1\}//p' "$0" >&2
        exit 2
        ;;
esac
