# What flake.nix offers on one system.
{
  self,
  lib,
  crane,
  pkgs,
}:
let
  root = ./../..;

  # rust-overlay reads the toolchain file while evaluating: no hash to keep, nothing to build.
  toolchain = pkgs.rust-bin.fromRustupToolchainFile (root + "/rust-toolchain.toml");
  craneLib = (crane.mkLib pkgs).overrideToolchain (_: toolchain);

  # What a build reads; a change anywhere else (documents, deploy/) rebuilds nothing.
  src = lib.fileset.toSource {
    inherit root;
    fileset = lib.fileset.unions (
      map (path: root + "/${path}") [
        ".config"
        "Cargo.lock"
        "Cargo.toml"
        "clippy.toml"
        "crates"
        "deny.toml"
        "migrations"
        "rust-toolchain.toml"
        "rustfmt.toml"
      ]
    );
  };

  common = {
    inherit src;
    pname = "paidonce";
    inherit ((builtins.fromTOML (builtins.readFile (root + "/Cargo.toml"))).workspace.package) version;
    strictDeps = true;
    SQLX_OFFLINE = "true";
  };

  built = common // {
    cargoArtifacts = craneLib.buildDepsOnly common;
  };

  paidonce = craneLib.buildPackage (
    built
    // {
      cargoExtraArgs = "--locked --package paidonce";
      # The tests are checks of their own.
      doCheck = false;
      meta = {
        description = "Orders paid exactly once: services, demo, proof";
        license = lib.licenses.mit;
        mainProgram = "paidonce";
      };
    }
  );

  # The servers that `up`, `demo` and the tests start for themselves.
  servers = [
    pkgs.postgresql_17
    pkgs.rabbitmq-server
  ];

  # Sets the clock of one service for some scenarios; they are for Linux alone.
  clocks = lib.optional isLinux pkgs.libfaketime;

  # The sandbox of a Nix build has a loopback interface, which is all that the servers need.
  # Tests read the whole tree: golden files, features, the README.
  tested = built // {
    src = root;
    nativeBuildInputs = servers ++ clocks;
    PAIDONCE_TEST_BACKEND = "local";
  };

  inherit (pkgs.stdenv.hostPlatform) isLinux;

  checks = {
    inherit paidonce;
    clippy = craneLib.cargoClippy (
      built // { cargoClippyExtraArgs = "--workspace --all-targets -- --deny warnings"; }
    );
    fmt = craneLib.cargoFmt { inherit (common) src pname version; };
    deny = craneLib.cargoDeny (common // { cargoDenyChecks = "bans licenses sources"; });
    tests = craneLib.cargoNextest (tested // { cargoNextestExtraArgs = "--workspace --profile ci"; });
    docs = craneLib.cargoDocTest (tested // { cargoTestExtraArgs = "--workspace"; });
    features = craneLib.cargoTest (
      tested // { cargoTestExtraArgs = "--package acceptance --test acceptance -- --backend local"; }
    );
    nix-fmt = pkgs.runCommand "paidonce-nix-fmt" { nativeBuildInputs = [ pkgs.nixfmt ]; } ''
      nixfmt --check ${root + "/flake.nix"} ${root + "/deploy/nix"}/*.nix
      touch $out
    '';
  };

  # `nix run .#demo` is `./dev demo` without a checkout.
  app =
    command: description:
    let
      program = pkgs.writeShellApplication {
        name = "paidonce-${command}";
        runtimeInputs = servers ++ [ paidonce ];
        text = ''exec paidonce ${command} "$@"'';
      };
    in
    {
      type = "app";
      program = lib.getExe program;
      meta = { inherit description; };
    };
in
{
  packages = {
    inherit paidonce;
    default = paidonce;
  }
  // lib.optionalAttrs isLinux {
    image = pkgs.dockerTools.streamLayeredImage {
      name = "paidonce";
      tag = self.shortRev or "dirty";
      contents = [ pkgs.cacert ];
      extraCommands = "mkdir -m 1777 tmp";
      config = {
        Entrypoint = [ (lib.getExe paidonce) ];
        ExposedPorts."8000/tcp" = { };
        User = "65532:65532";
      };
    };
  };

  apps = {
    demo = app "demo" "Starts everything on servers of its own and shows that orders are paid once";
    up = app "up" "The whole system on this machine, until Ctrl-C";
  };

  checks =
    checks
    // lib.optionalAttrs isLinux {
      vm = pkgs.testers.runNixOSTest (import ./vm-test.nix self);
    };

  devShells.default = craneLib.devShell {
    packages =
      servers
      ++ clocks
      ++ [
        pkgs.cargo-deny
        pkgs.cargo-nextest
        pkgs.docker-client
        pkgs.docker-compose
        pkgs.nixfmt
        pkgs.shellcheck
      ]
      # setpriv, flock
      ++ lib.optional isLinux pkgs.util-linux;
  };

  formatter = pkgs.nixfmt-tree;
}
