#!/bin/sh
# Starts the offline RabbitMQ image. The broker itself reads RABBITMQ_DEFAULT_USER,
# RABBITMQ_DEFAULT_PASS and RABBITMQ_DEFAULT_VHOST; RABBITMQ_ERLANG_COOKIE is written to where it
# looks for it. The log goes to stdout. Settings are baked into conf.d and enabled_plugins.
set -eu

HOME=/var/lib/rabbitmq
RABBITMQ_LOGS=-
PATH=/usr/lib/rabbitmq/bin:$PATH
export HOME RABBITMQ_LOGS PATH

case "${1:-}" in
    '' | -*) set -- rabbitmq-server "$@" ;;
esac
[ "$1" = rabbitmq-server ] || exec "$@"

if [ "$(id -u)" = 0 ]; then
    install -d -o rabbitmq -g rabbitmq -m 0755 "$HOME" "$HOME/mnesia"
    if [ -n "${RABBITMQ_ERLANG_COOKIE:-}" ]; then
        printf '%s' "$RABBITMQ_ERLANG_COOKIE" >"$HOME/.erlang.cookie"
        chown rabbitmq:rabbitmq "$HOME/.erlang.cookie"
        chmod 0600 "$HOME/.erlang.cookie"
    fi
    exec setpriv --reuid=rabbitmq --regid=rabbitmq --init-groups -- "$0" "$@"
fi
exec "$@"
