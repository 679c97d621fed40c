# Waits until the program that started it has ended, however it ended, and then removes what is left.
#
#   sh -c SCRIPT reaper FOLDER MARK
#
# Standard input is a pipe whose other end the program holds: the kernel closes it even after SIGKILL.
# Each line names all servers that run now, as PID:BORN:SIGNAL with the signal that ends the server;
# the last whole line counts. FOLDER is removed, unless it is empty. MARK is a word in the servers'
# environment. Standard output is the lock of a kept folder: it is free when this script has ended.
trap '' INT TERM HUP QUIT
cd /
folder=$1
mark=$2
servers=
while read -r line; do servers=$line; done

fields() { # PID: the process's state, parent and so on (fields 3 and up of its stat file)
    stat=
    { read -r stat <"/proc/$1/stat"; } 2>/dev/null && echo "${stat##*) }"
}

runs() { # PID BORN: the same process, not a later one of that number, and not a zombie
    if [ ! -e /proc/self/stat ]; then
        kill -0 "$1" 2>/dev/null
        return
    fi
    # the words become the arguments; the start time is field 22
    # shellcheck disable=SC2046
    set -- "$2" $(fields "$1")
    [ $# -gt 20 ] && [ "$2" != Z ] && [ "${21}" = "$1" ]
}

children() { # PID
    if [ ! -e /proc/self/stat ]; then
        pgrep -P "$1"
        return
    fi
    for file in /proc/[0-9]*/stat; do
        child=${file#/proc/}
        child=${child%/stat}
        # shellcheck disable=SC2046
        set -- "$1" $(fields "$child")
        [ "$3" != "$1" ] || echo "$child"
    done
}

each() { # COMMAND: for every server that still runs, with PID and SIGNAL
    found=1
    for server in $servers; do
        pid=${server%%:*}
        rest=${server#*:}
        runs "$pid" "${rest%%:*}" || continue
        found=0
        "$1" "$pid" "${rest#*:}"
    done
    return "$found"
}

end() { # PID SIGNAL: as the server wants it; a frozen one has to be thawed for that
    # shellcheck disable=SC2046
    kill -CONT "$1" $(children "$1") 2>/dev/null
    if [ "$2" = KILL ]; then destroy "$1"; else kill -"$2" "$1" 2>/dev/null; fi
}

destroy() { # PID: with its group and its children, which may have groups of their own
    kill -STOP "$1" 2>/dev/null
    # shellcheck disable=SC2046
    kill -KILL $(children "$1") 2>/dev/null
    kill -KILL -- "-$1" 2>/dev/null
    kill -KILL "$1" 2>/dev/null
}

each end
tries=0
while each : && [ "$tries" -lt 60 ]; do
    tries=$((tries + 1))
    sleep 0.1
done
each destroy

# whatever a server started and left: it inherited the mark
for file in $(grep -las -e "$mark" /proc/[0-9]*/environ 2>/dev/null); do
    left=${file#/proc/}
    kill -KILL "${left%/environ}" 2>/dev/null
done

[ -n "$folder" ] || exit 0
# a killed PostgreSQL leaves its segment of shared memory, whose id is in line 7
segment=$(sed -n '7s/^ *[0-9]* *//p' "$folder/postgres/data/postmaster.pid" 2>/dev/null)
[ -z "$segment" ] || ipcrm -m "$segment" 2>/dev/null
tries=0
while [ -e "$folder" ] && [ "$tries" -lt 20 ]; do
    rm -rf -- "$folder" 2>/dev/null && break
    tries=$((tries + 1))
    sleep 0.1
done
