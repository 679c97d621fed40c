# The packages and builders of nixpkgs that the flake names, as derivations that evaluate and do
# not build. A name that is missing here fails the check: add it only after looking it up.
{
  system,
  overlays ? [ ],
  config ? { },
}:
let
  lib = import ./lib.nix;

  # a derivation that evaluates and cannot be built
  fake =
    name: extra:
    derivation {
      inherit name system;
      builder = "/bin/sh";
      args = [
        "-c"
        "echo 'this is a stub' >&2; exit 1"
      ];
      inputs = builtins.concatLists [
        (extra.packages or [ ])
        (extra.runtimeInputs or [ ])
        (extra.nativeBuildInputs or [ ])
        (extra.buildInputs or [ ])
        (extra.contents or [ ])
      ];
    }
    // {
      inherit name;
      meta = {
        mainProgram = name;
      }
      // (extra.meta or { });
    };

  parts = builtins.match "([^-]+)-([^-]+)" system;

  self = {
    inherit lib fake system;
    stdenv.hostPlatform = {
      inherit system;
      isLinux = builtins.elemAt parts 1 == "linux";
      isDarwin = builtins.elemAt parts 1 == "darwin";
    };

    runCommand =
      name: args: text:
      assert builtins.isString text;
      fake name args;
    writeShellApplication =
      {
        name,
        text,
        runtimeInputs ? [ ],
      }:
      assert builtins.isString text;
      fake name { inherit runtimeInputs; };

    dockerTools =
      let
        image =
          {
            name,
            tag ? null,
            contents ? [ ],
            config ? { },
            ...
          }:
          builtins.deepSeq config (fake "${name}.tar" { inherit contents; });
      in
      {
        streamLayeredImage = image;
      };

    testers.runNixOSTest =
      {
        name,
        nodes,
        testScript,
      }:
      let
        nodeArgs = {
          inherit pkgs lib;
          config = { };
        };
        evaluated = builtins.mapAttrs (
          _: node: (if builtins.isFunction node then node nodeArgs else node)
        ) nodes;
        own = builtins.mapAttrs (_: node: removeAttrs node [ "imports" ]) evaluated;
      in
      builtins.deepSeq own (fake "vm-test-run-${name}" { }) // { inherit testScript; };
  }
  // lib.genAttrs [
    "cacert"
    "cargo-deny"
    "cargo-nextest"
    "curl"
    "docker-client"
    "docker-compose"
    "jq"
    "libfaketime"
    "nixfmt"
    "nixfmt-tree"
    "postgresql_17"
    "rabbitmq-server"
    "shellcheck"
    "util-linux"
  ] (name: fake name { });

  pkgs = builtins.foldl' (prev: overlay: prev // overlay pkgs prev) self overlays;
in
pkgs
