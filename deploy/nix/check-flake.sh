#!/bin/sh
# Checks flake.nix without a network: evaluates each output against stubs of its inputs.
#
#   check-flake.sh [FOLDER]        the folder with flake.nix; by default the root of this project
#
# Needs nix 2.8 or newer (Debian: nix-bin) and python3. nixfmt and deadnix are used where they are
# installed.
# Shows: syntax; that every name used stands in a stub; the shape of the outputs; that the module
# defines what it says; that the virtual machine's script is Python; that flake.lock fits flake.nix.
# Does not show: that nixpkgs, crane and rust-overlay have what the stubs claim, nor that anything
# builds. Only `nix flake check` with a network does.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
root=$(CDPATH='' cd -- "${1:-$here/../..}" && pwd)
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT

# A path: flake is copied as a whole, target/ included; this is the part that gets evaluated.
mkdir "$work/flake"
for path in .config Cargo.lock Cargo.toml README.md clippy.toml crates deny.toml deploy flake.lock \
    flake.nix migrations rust-toolchain.toml rustfmt.toml; do
    [ ! -e "$root/$path" ] || cp -R "$root/$path" "$work/flake/"
done
nix_files="$work/flake/flake.nix $(find "$work/flake/deploy/nix" -name '*.nix' -not -path '*/stub/*')"

nix() {
    command nix --extra-experimental-features 'nix-command flakes' \
        --store "$work/store" --offline --option warn-dirty false "$@"
}

flake() { # SUBCOMMAND ARGUMENT...
    nix "$@" --no-write-lock-file \
        --override-input nixpkgs "path:$here/stub/nixpkgs" \
        --override-input crane "path:$here/stub/crane" \
        --override-input rust-overlay "path:$here/stub/rust-overlay"
}

check() { # LABEL COMMAND...
    label=$1
    shift
    if "$@" >"$work/out" 2>"$work/err"; then
        echo "ok      $label"
    else
        echo "FAILED  $label"
        grep -v '^warning:' "$work/err" | tail -n 25
        exit 1
    fi
}

check "outputs" flake flake check --no-build "path:$work/flake"
for system in x86_64-linux aarch64-linux aarch64-darwin; do
    for output in packages checks devShells; do
        check "$output.$system" flake eval --json "path:$work/flake#$output.$system" \
            --apply 'builtins.mapAttrs (_: drv: drv.drvPath)'
    done
    check "apps.$system" flake eval --json "path:$work/flake#apps.$system"
    check "formatter.$system" flake eval --raw "path:$work/flake#formatter.$system.drvPath"
done
check "module" nix eval --impure --json \
    --expr "import $here/module-check.nix { flake = $work/flake; stub = $here/stub; }"
check "virtual machine" flake eval --raw "path:$work/flake#checks.x86_64-linux.vm.testScript"
cp "$work/out" "$work/vm.py"
check "virtual machine's script" python3 -c \
    'import sys; text = open(sys.argv[1]).read(); assert text; compile(text, "testScript", "exec")' \
    "$work/vm.py"

inputs() {
    nix eval --json --impure --expr "builtins.mapAttrs (_: input: {
        url = input.url or null;
        follows = builtins.mapAttrs (_: inner: inner.follows or null) (input.inputs or { });
    }) (import $work/flake/flake.nix).inputs"
}
check "inputs" inputs
cp "$work/out" "$work/inputs.json"
check "flake.lock" python3 "$here/check-lock.py" "$work/flake/flake.lock" "$work/inputs.json"

# shellcheck disable=SC2086 # a list of files
if command -v nixfmt >/dev/null 2>&1; then
    check "nixfmt" nixfmt --check $nix_files
else
    echo "not run nixfmt (not installed)"
fi
# shellcheck disable=SC2086
if command -v deadnix >/dev/null 2>&1; then
    check "deadnix" deadnix --fail $nix_files
else
    echo "not run deadnix (not installed)"
fi
