#!/usr/bin/env bash
# Brings docker-compose.yml up under a name and ports of its own, waits until each container is
# healthy, pays an order through the gateway, gives broker and database other addresses, pays one
# more, and takes everything down again.
#
#   deploy/compose-check.sh
#
# Images and the binary to pack come from the variables of .env (POSTGRES_IMAGE, RABBITMQ_IMAGE,
# RUNTIME_IMAGE, PAIDONCE_DOCKERFILE, PAIDONCE_BINARY). Needs curl, and docker-compose or
# `docker compose`.
set -euo pipefail
cd "$(dirname -- "$0")/.."

project=paidoncecheck$$
if command -v docker-compose >/dev/null 2>&1; then
    compose() { docker-compose --project-name "$project" "$@"; }
else
    compose() { docker compose --project-name "$project" "$@"; }
fi

free_port() { # below 32768: from there on the kernel gives ports to clients
    local port
    while port=$((20000 + RANDOM % 10000)); do
        (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
    echo "$port"
}
GATEWAY_PORT=$(free_port)
RABBITMQ_UI_PORT=$(free_port)
export GATEWAY_PORT RABBITMQ_UI_PORT PAIDONCE_IMAGE=paidonce:check
# One builder for both versions of compose; the packing Dockerfile needs no other.
[ "${PAIDONCE_DOCKERFILE:-Dockerfile}" = Dockerfile ] || export DOCKER_BUILDKIT=0 COMPOSE_DOCKER_CLI_BUILD=0

strangers=()
down() {
    local status=$?
    trap - EXIT
    if [ "$status" != 0 ]; then
        compose ps || true
        compose logs --no-color --tail 40 || true
    fi
    [ "${#strangers[@]}" = 0 ] || docker rm --force --volumes "${strangers[@]}" >/dev/null || status=1
    compose down --volumes --remove-orphans --timeout 20 >/dev/null 2>&1 || status=1
    docker image rm "$PAIDONCE_IMAGE" >/dev/null 2>&1 || true
    exit "$status"
}
trap down EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

fail() {
    echo "compose: $*" >&2
    exit 1
}

compose up --build --detach

wait_healthy() {
    local id health deadline=$((SECONDS + 180))
    for id in $(compose ps -q); do
        while health=$(docker inspect --format '{{.State.Health.Status}}' "$id"); do
            [ "$health" != healthy ] || break
            ((SECONDS < deadline)) ||
                fail "$(docker inspect --format '{{.Name}}' "$id") is $health after 180 s"
            sleep 1
        done
    done
}
wait_healthy
count=$(compose ps -q | wc -l)
[ "$count" = 6 ] || fail "$count containers are healthy, not 6"

base=http://127.0.0.1:$GATEWAY_PORT
answer() { # EXPECTED METHOD PATH [BODY]: fails unless the body is exactly what is expected
    local got
    got=$(curl --silent --show-error --fail --noproxy '*' --max-time 10 --request "$2" \
        ${4:+--header 'content-type: application/json' --data "$4"} "$base$3")
    [ "$got" = "$1" ] || fail "$2 $3 answered $got, not $1"
}
eventually() { # EXPECTED METHOD PATH: within a minute
    local deadline=$((SECONDS + 60))
    until (answer "$@") 2>/dev/null; do
        ((SECONDS < deadline)) || answer "$@"
        sleep 0.2
    done
}
order='"user_id":101,"amount":"150.00","description":"хз"'
answer '{"id":1,"user_id":101,"balance":"0.00"}' POST /v1/accounts '{"user_id":101}'
answer '{"id":1,"user_id":101,"balance":"500.00"}' POST /v1/accounts/deposit \
    '{"user_id":101,"amount":"500.00"}'
answer "{\"id\":1,$order,\"status\":\"NEW\"}" POST /v1/orders/ "{$order}"
eventually "{\"id\":1,$order,\"status\":\"FINISHED\"}" GET '/v1/orders/1?user_id=101'
answer '{"id":1,"user_id":101,"balance":"350.00"}' GET /v1/accounts/101

# A container that is made anew may have another address (fault E15): a name is asked for again at
# each connection. A stranger takes the address that has become free.
address() { # SERVICE NETWORK
    docker inspect --format "{{(index .NetworkSettings.Networks \"${project}_$2\").IPAddress}}" \
        "$(compose ps -q "$1")"
}
move() { # SERVICE NETWORK
    local before after image
    before=$(address "$1" "$2")
    image=$(docker inspect --format '{{.Config.Image}}' "$(compose ps -q "$1")")
    compose rm --stop --force "$1"
    strangers+=("$(docker run --detach --rm --network "${project}_$2" --entrypoint sleep "$image" 600)")
    compose up --detach --no-deps "$1"
    after=$(address "$1" "$2")
    [ "$before" != "$after" ] || fail "$1 has come back under its former address, $before"
}
move payments_db payments
move rabbitmq payments
wait_healthy
answer "{\"id\":2,$order,\"status\":\"NEW\"}" POST /v1/orders/ "{$order}"
eventually "{\"id\":2,$order,\"status\":\"FINISHED\"}" GET '/v1/orders/2?user_id=101'
eventually '{"id":1,"user_id":101,"balance":"200.00"}' GET /v1/accounts/101

curl --silent --fail --noproxy '*' --max-time 10 --user guest:guest --output /dev/null \
    "http://127.0.0.1:$RABBITMQ_UI_PORT/api/overview" || fail "the management API does not answer"
limit=$(compose exec -T rabbitmq rabbitmqctl --quiet eval 'application:get_env(rabbit, max_message_size).' | tr -d '\r')
[ "$limit" = '{ok,131072}' ] || fail "the broker's max_message_size is $limit"

echo "compose: 6 containers healthy, an order paid, one more after broker and database have moved," \
    "the broker's limit in force"
