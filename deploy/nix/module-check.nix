# Called by check-flake.sh: the NixOS module with several settings, everything it defines forced.
{ flake, stub }:
let
  lib = import (stub + "/nixpkgs/lib.nix");
  pkgs = import (stub + "/nixpkgs") { system = "x86_64-linux"; };
  self.packages.x86_64-linux.paidonce = pkgs.fake "paidonce" { };
  module = import (flake + "/deploy/nix/module.nix") self;
  call = config: module { inherit lib pkgs config; };
  inherit ((call { services.paidonce = { }; }).options.services) paidonce;
  defaults = builtins.mapAttrs (
    name: option: option.default or (throw "option ${name} has no default")
  ) paidonce;
  configured =
    settings: (call { services.paidonce = defaults // { enable = true; } // settings; }).config;

  plain = configured { };
  remote = configured { createLocally = false; };
  units = plain.systemd.services;
in
# One binary, a subcommand for each unit, and the names of the environment.
assert
  builtins.attrNames units == [
    "paidonce-gateway"
    "paidonce-orders"
    "paidonce-payments"
  ];
assert builtins.all
  (
    service:
    builtins.match ".*/bin/paidonce ${service}" units."paidonce-${service}".serviceConfig.ExecStart
    != null
  )
  [
    "gateway"
    "orders"
    "payments"
  ];
assert units.paidonce-gateway.environment ? ORDERS_SERVICE_URL;
assert units.paidonce-orders.environment.DB_ORDERS__HOST == "/run/postgresql";
assert !(remote.systemd.services.paidonce-payments.environment ? DB_PAYMENTS__HOST);
[
  plain
  remote
  (configured {
    environmentFile = "/run/secrets/paidonce";
    settings.REDRIVE_AFTER = "10s";
  })
]
