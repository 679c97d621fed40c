#!/bin/sh
# The query caches in crates/*/.sqlx: what lets the workspace compile without a database.
#
#   deploy/sqlx.sh check       are they what the migrations and the queries of today give?
#   deploy/sqlx.sh prepare     writes them anew
#
# Needs psql and a PostgreSQL server on which databases may be created: the one of the sandbox
# around this script (`./dev prepare` and `./dev test` start it), or DATABASE_SERVER_URL, without a
# database's name. sqlx-cli is not needed: with a database in sight the query macros write their
# cache themselves, to SQLX_OFFLINE_DIR.
set -eu

cd "$(dirname -- "$0")/.."
server=${DATABASE_SERVER_URL:-$(printf '%s' "${PAIDONCE_SANDBOX:-}" | sed -n \
    's|^{"postgres":{"host":"\([^"]*\)","port":\([0-9]*\),"user":"\([^"]*\)","password":"\([^"]*\)"}.*|postgres://\3:\4@\1:\2|p')}
[ -n "$server" ] || {
    echo "sqlx.sh: neither a sandbox around this script nor DATABASE_SERVER_URL" >&2
    exit 2
}
case "${1:-}" in
    check | prepare) mode=$1 ;;
    *)
        sed -n '4,5p' "$0" >&2
        exit 2
        ;;
esac
work=$(mktemp -d)
touched=
restore() {
    # Nothing has changed in the sources: without this everything would be compiled once more.
    for crate in $touched; do
        file=crates/$crate/src/lib.rs
        [ -n "$(find "$file" -newer "$work/$crate.touched")" ] || touch -r "$work/$crate.before" "$file"
    done
    rm -rf "$work"
}
trap restore EXIT

# Without the notice that a database to be dropped is not there.
export PGOPTIONS='--client-min-messages=warning'

database() { # NAME MIGRATIONS: a database of that name, brought up to date
    psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 "$server/postgres" \
        --command "drop database if exists $1" --command "create database $1"
    for file in "$2"/*.sql; do
        psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 --single-transaction --output /dev/null \
            "$server/$1" --file "$file"
    done
}

fresh() { # CRATE VARIABLE MIGRATIONS: $work/CRATE is the cache as it should be
    crate=$1
    mkdir "$work/$crate"
    database "sqlx_$crate" "$3"
    # The macros run when their crate is compiled; its file's age decides that.
    touch -r "crates/$crate/src/lib.rs" "$work/$crate.before"
    touch "crates/$crate/src/lib.rs"
    touch -r "crates/$crate/src/lib.rs" "$work/$crate.touched"
    touched="$touched $crate"
    # check shares what clippy has compiled. prepare cannot: crates that use this one may have no
    # cache yet and would not compile.
    case "$mode" in
        check) set -- "$2" clippy --workspace --all-targets ;;
        prepare) set -- "$2" check --package "$crate" --all-targets ;;
    esac
    variable=$1
    shift
    env -u SQLX_OFFLINE SQLX_OFFLINE_DIR="$work/$crate" \
        "$variable=$server/sqlx_$crate" cargo "$@" --locked --quiet
    found=$(find "$work/$crate" -name 'query-*.json' | wc -l)
    # A cache that was not written must not pass for one without queries.
    [ "$found" -gt 0 ] || {
        echo "$crate: no query was cached" >&2
        return 1
    }
    if [ "$mode" = prepare ]; then
        mkdir -p "crates/$crate/.sqlx"
        rm -f "crates/$crate/.sqlx"/query-*.json
        cp "$work/$crate"/query-*.json "crates/$crate/.sqlx/"
        echo "$crate: $found queries"
    elif diff -r "crates/$crate/.sqlx" "$work/$crate" >"$work/diff"; then
        echo "$crate: $found queries, cache is fresh"
    else
        head -n 40 "$work/diff" >&2
        echo "$crate: crates/$crate/.sqlx is stale: run ./dev prepare and commit" >&2
        return 1
    fi
}

fresh postbox POSTBOX_DATABASE_URL crates/postbox/migrations
fresh orders ORDERS_DATABASE_URL migrations/orders
fresh payments PAYMENTS_DATABASE_URL migrations/payments
