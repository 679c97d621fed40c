#!/bin/sh
# Makes stand-ins for the public container images out of Debian packages, for machines that reach
# a Debian archive but no container registry.
#
#   build.sh [postgres|rabbitmq|runtime|all]
#
# Needs: root (or user namespaces that work), mmdebstrap, a docker client and its engine, and an
# apt that has run `apt-get update` (the archive's address is the one that apt uses).
# Settings, from the environment:
#   PAIDONCE_IMAGE_SUITE    the Debian release to take packages from       trixie
#   PAIDONCE_IMAGE_PREFIX   first part of the images' names                paidonce-offline
#   PAIDONCE_IMAGE_CACHE    where root file systems are kept               ~/.cache/paidonce-images
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
suite=${PAIDONCE_IMAGE_SUITE:-trixie}
prefix=${PAIDONCE_IMAGE_PREFIX:-paidonce-offline}
cache=${PAIDONCE_IMAGE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/paidonce-images}

stop() {
    echo "build.sh: $*" >&2
    exit 2
}

# The address of the main archive ("Debian") or of its updates ("Debian-Security").
archive() {
    # shellcheck disable=SC2016 # apt fills in these names
    apt-get indextargets --format '$(REPO_URI) $(ORIGIN) $(LABEL) $(COMPONENT)' \
        'Created-By: Packages' |
        awk -v label="$1" '$2 == "Debian" && $3 == label && $4 == "main" { print $1; exit }'
}

# rootfs NAME VARIANT PACKAGES HOOK...: a root file system as a tar file in the cache, made anew
# only when something that goes into it has changed.
rootfs() {
    name=$1 variant=$2 packages=$3
    shift 3
    tar=$cache/$suite-$name.tar
    key=$(
        {
            echo "$suite $variant $packages $*"
            cat "$here/build.sh" "$here"/entrypoint-*.sh "$here/../rabbitmq.conf"
        } | sha256sum | cut -d ' ' -f 1
    )
    if [ -s "$tar" ] && [ "$(cat "$tar.key" 2>/dev/null)" = "$key" ]; then
        echo "$name: root file system from the cache" >&2
        return
    fi
    mkdir -p "$cache"
    {
        echo "deb $main $suite main"
        [ -z "$security" ] || echo "deb $security $suite-security main"
    } >"$cache/$name.list"
    # No manuals or translations, and no LLVM: PostgreSQL's JIT compiler is two thirds of its size.
    mmdebstrap --quiet --mode=auto --format=tar --variant="$variant" --include="$packages" \
        --aptopt='APT::Install-Recommends "false"' \
        --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/info/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/i18n/*' \
        --dpkgopt='path-exclude=/usr/lib/*/libLLVM*' \
        --dpkgopt='path-exclude=/usr/lib/llvm*' \
        --dpkgopt='path-exclude=/usr/lib/*/libz3.so*' \
        --dpkgopt='path-exclude=/usr/lib/postgresql/*/lib/bitcode*' \
        --dpkgopt='path-exclude=/usr/lib/postgresql/*/lib/llvmjit*' \
        "$@" "$suite" "$tar.new" "$cache/$name.list"
    mv "$tar.new" "$tar"
    echo "$key" >"$tar.key"
}

# import NAME STOPSIGNAL TAGS OPTION...: the cached file system as an image under each tag.
import() {
    name=$1 signal=$2 tags=$3
    shift 3
    first=
    for tag in $tags; do
        if [ -n "$first" ]; then
            docker tag "$first" "$prefix/$name:$tag"
            continue
        fi
        first=$prefix/$name:$tag
        docker import "$@" "$cache/$suite-$name.tar" "$first" >/dev/null
        # docker import cannot set a stop signal; a build without a context can. Without it
        # PostgreSQL waits for its clients at every stop until it is killed.
        [ "$signal" = SIGTERM ] ||
            printf 'FROM %s\nSTOPSIGNAL %s\n' "$first" "$signal" |
            DOCKER_BUILDKIT=0 docker build --quiet --tag "$first" - >/dev/null 2>&1
    done
    docker image inspect --format '{{index .RepoTags 0}} {{.Size}} bytes' "$first"
}

# In the hooks below "$1" is the new root file system; mmdebstrap's shell fills it in.
# shellcheck disable=SC2016
prune='rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/* "$1"/var/cache/debconf/* "$1"/var/log/*'

# shellcheck disable=SC2016
postgres() {
    rootfs postgres minbase postgresql-17 \
        --essential-hook='mkdir -p "$1/etc/postgresql-common"
            echo "create_main_cluster = false" >"$1/etc/postgresql-common/createcluster.conf"' \
        --customize-hook="copy-in $here/entrypoint-postgres.sh /usr/local/bin" \
        --customize-hook='mkdir -p "$1/docker-entrypoint-initdb.d"' \
        --customize-hook='rm -rf "$1"/usr/lib/*-linux-gnu/perl "$1"/usr/lib/*-linux-gnu/libperl* \
            "$1"/usr/share/perl "$1"/usr/share/perl5 "$1"/usr/lib/*-linux-gnu/gconv' \
        --customize-hook="$prune"
    import postgres SIGINT "17 17-alpine" \
        --change 'ENV PATH=/usr/lib/postgresql/17/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
        --change 'ENV LANG=C.UTF-8' \
        --change 'ENV PGDATA=/var/lib/postgresql/data' \
        --change 'VOLUME /var/lib/postgresql/data' \
        --change 'EXPOSE 5432' \
        --change 'ENTRYPOINT ["/usr/local/bin/entrypoint-postgres.sh"]' \
        --change 'CMD ["postgres"]'
}

# shellcheck disable=SC2016
rabbitmq() {
    rootfs rabbitmq minbase rabbitmq-server \
        --customize-hook="copy-in $here/entrypoint-rabbitmq.sh /usr/local/bin" \
        --customize-hook='mkdir -p "$1/etc/rabbitmq/conf.d"' \
        --customize-hook="upload $here/../rabbitmq.conf /etc/rabbitmq/conf.d/10-paidonce.conf" \
        --customize-hook='chmod 0644 "$1/etc/rabbitmq/conf.d/10-paidonce.conf"
            echo "[rabbitmq_management,rabbitmq_prometheus]." >"$1/etc/rabbitmq/enabled_plugins"' \
        --customize-hook='rm -rf "$1"/usr/lib/*-linux-gnu/gconv \
            "$1"/usr/lib/rabbitmq/lib/*/plugins/eetcd* \
            "$1"/usr/lib/rabbitmq/lib/*/plugins/rabbitmq_peer_discovery_*' \
        --customize-hook="$prune"
    import rabbitmq SIGTERM "4-management 4 4-management-alpine" \
        --change 'ENV LANG=C.UTF-8' \
        --change 'VOLUME /var/lib/rabbitmq' \
        --change 'EXPOSE 5672 15672 15692' \
        --change 'ENTRYPOINT ["/usr/local/bin/entrypoint-rabbitmq.sh"]' \
        --change 'CMD ["rabbitmq-server"]'
}

# What a dynamically linked program needs, and no shell. mmdebstrap's variant "extract" runs no
# maintainer script and no customize hook, and leaves out the links and files of base-files.
# shellcheck disable=SC2016
runtime() {
    rootfs runtime extract libc6,libgcc-s1,ca-certificates,tzdata \
        --extract-hook='mkdir -p "$1/tmp" "$1/etc/ssl/certs"; chmod 1777 "$1/tmp"
            for d in bin sbin lib lib64; do [ -e "$1/$d" ] || ln -s "usr/$d" "$1/$d"; done
            printf "root:x:0:0::/:/sbin/nologin\napp:x:65532:65532::/:/sbin/nologin\n" >"$1/etc/passwd"
            printf "root:x:0:\napp:x:65532:\n" >"$1/etc/group"
            printf "hosts: files dns\n" >"$1/etc/nsswitch.conf"
            find "$1/usr/share/ca-certificates" -name "*.crt" | sort | xargs cat \
                >"$1/etc/ssl/certs/ca-certificates.crt"' \
        --extract-hook='rm -rf "$1"/usr/lib/*-linux-gnu/gconv "$1"/usr/share/doc \
            "$1"/usr/share/ca-certificates "$1"/var/lib/dpkg "$1"/var/cache'
    import runtime SIGTERM latest --change 'USER 65532:65532' --change 'ENV LANG=C.UTF-8'
}

for tool in mmdebstrap docker apt-get; do
    command -v "$tool" >/dev/null 2>&1 || stop "$tool is missing (Debian: mmdebstrap, docker.io)"
done
main=$(archive Debian)
security=$(archive Debian-Security)
[ -n "$main" ] || stop "apt knows no Debian archive: run apt-get update first"

case "${1:-all}" in
    postgres | rabbitmq | runtime) "$1" ;;
    all)
        postgres
        rabbitmq
        runtime
        ;;
    *)
        sed -n '2,14p' "$here/build.sh" >&2
        exit 2
        ;;
esac
