# Stands in for rust-overlay: insists on an exact release in rust-toolchain.toml.
{
  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";
  outputs =
    { self, nixpkgs }:
    {
      overlays.default = final: prev: {
        rust-bin.fromRustupToolchainFile =
          path:
          let
            inherit ((builtins.fromTOML (builtins.readFile path)).toolchain) channel;
            version = builtins.match "([0-9]+)\\.([0-9]+)\\.([0-9]+)" channel;
          in
          if version == null then
            throw "rust-toolchain.toml: ${channel} is not an exact release"
          else
            final.fake "rust-${channel}" { };
      };
    };
}
