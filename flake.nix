{
  description = "paidonce: orders paid exactly once, over two PostgreSQL and RabbitMQ";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";
    crane.url = "github:ipetkov/crane";
    rust-overlay = {
      url = "github:oxalica/rust-overlay";
      inputs.nixpkgs.follows = "nixpkgs";
    };
  };

  outputs =
    {
      self,
      nixpkgs,
      crane,
      rust-overlay,
    }:
    let
      inherit (nixpkgs) lib;

      systems = [
        "x86_64-linux"
        "aarch64-linux"
        "aarch64-darwin"
      ];

      perSystem = lib.genAttrs systems (
        system:
        import ./deploy/nix/outputs.nix {
          inherit self lib crane;
          pkgs = import nixpkgs {
            inherit system;
            overlays = [ rust-overlay.overlays.default ];
          };
        }
      );

      collect = output: lib.mapAttrs (_: outputs: outputs.${output}) perSystem;
    in
    {
      # paidonce, the one binary; on Linux also `image`, its container
      packages = collect "packages";
      # `nix run .#demo`, `nix run .#up`
      apps = collect "apps";
      # `nix flake check`: clippy, formatting, tests, features, licences, a virtual machine
      checks = collect "checks";
      # `nix develop`: the toolchain, both servers and the tools of ./dev
      devShells = collect "devShells";
      formatter = collect "formatter";

      nixosModules.default = import ./deploy/nix/module.nix self;
    };
}
