#!/bin/sh
# Starts the offline PostgreSQL image as the public one would start. Kept from that contract:
#   POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_DB, POSTGRES_HOST_AUTH_METHOD,
#   POSTGRES_INITDB_ARGS, PGDATA, /docker-entrypoint-initdb.d/*.{sql,sh};
#   arguments that begin with '-' are the server's;
#   "ready to accept connections" comes once on stdout (the private server that initialises the
#   database, first start only) and once on stderr (the real one).
set -eu

bindir=$(find /usr/lib/postgresql -mindepth 2 -maxdepth 2 -name bin | sort -V | tail -n 1)
PATH=$bindir:$PATH
PGDATA=${PGDATA:-/var/lib/postgresql/data}
export PATH PGDATA

case "${1:-}" in
    '' | -*) set -- postgres "$@" ;;
esac
[ "$1" = postgres ] || exec "$@"

if [ "$(id -u)" = 0 ]; then
    # The server refuses to run as root.
    install -d -o postgres -g postgres -m 0700 "$PGDATA"
    install -d -o postgres -g postgres -m 2775 /run/postgresql
    exec setpriv --reuid=postgres --regid=postgres --init-groups -- "$0" "$@"
fi

initialise() {
    user=${POSTGRES_USER:-postgres}
    database=${POSTGRES_DB:-$user}
    method=${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}
    if [ -z "${POSTGRES_PASSWORD:-}" ] && [ "$method" != trust ]; then
        echo "POSTGRES_PASSWORD is not set (nor is POSTGRES_HOST_AUTH_METHOD=trust)" >&2
        exit 1
    fi
    password=$(mktemp)
    printf '%s\n' "${POSTGRES_PASSWORD:-unused}" >"$password"
    # shellcheck disable=SC2086 # POSTGRES_INITDB_ARGS is a list of words
    initdb --username="$user" --pwfile="$password" --encoding=UTF8 --locale=C.UTF-8 \
        --auth-local=trust --auth-host="$method" --no-sync ${POSTGRES_INITDB_ARGS:-}
    rm -f "$password"
    printf '%s\n' "listen_addresses = '*'" "unix_socket_directories = '/run/postgresql'" \
        >>"$PGDATA/postgresql.conf"
    echo "host all all all $method" >>"$PGDATA/pg_hba.conf"

    pg_ctl -w -o "-c listen_addresses='' -c fsync=off" start 2>&1
    [ "$database" = postgres ] ||
        printf 'CREATE DATABASE :"name";\n' | sql postgres --set name="$database"
    for file in /docker-entrypoint-initdb.d/*; do
        [ -f "$file" ] || continue
        echo "running $file"
        case "$file" in
            *.sql) sql "$database" --file "$file" ;;
            *.sh) PGHOST=/run/postgresql PGUSER=$user PGDATABASE=$database sh "$file" ;;
            *) echo "ignored $file" ;;
        esac
    done
    pg_ctl -m fast -w stop
    # One flush for all that was written with fsync off.
    sync
}

sql() { # DATABASE OPTION...
    name=$1
    shift
    psql --set ON_ERROR_STOP=1 --no-psqlrc --quiet --host /run/postgresql --username "$user" \
        --dbname "$name" "$@"
}

[ -s "$PGDATA/PG_VERSION" ] || initialise
exec "$@"
