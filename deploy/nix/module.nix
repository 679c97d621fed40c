# NixOS module: the three services as systemd units of one binary, with PostgreSQL and RabbitMQ on
# the same machine unless told otherwise. Variables are those of the services' environment
# (README); secrets go into `environmentFile`.
self:
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.paidonce;

  unit = service: environment: {
    description = "paidonce ${service}";
    wantedBy = [ "multi-user.target" ];
    wants = [ "network-online.target" ];
    # An order, not a need: a service runs without its servers and connects when they are there.
    after = [
      "network-online.target"
    ]
    ++ lib.optionals cfg.createLocally [
      "postgresql.target"
      "rabbitmq.service"
    ];
    # It goes on trying for ever, as a service whose database is away must.
    startLimitIntervalSec = 0;
    environment = environment // cfg.settings;
    serviceConfig = {
      ExecStart = "${lib.getExe cfg.package} ${service}";
      User = "paidonce-${service}";
      DynamicUser = true;
      EnvironmentFile = lib.optional (cfg.environmentFile != null) cfg.environmentFile;
      Restart = "always";
      RestartSec = 1;
      # SHUTDOWN_TIMEOUT is 8s.
      TimeoutStopSec = 15;
      MemoryMax = "512M";
      CapabilityBoundingSet = "";
      LockPersonality = true;
      NoNewPrivileges = true;
      PrivateDevices = true;
      PrivateTmp = true;
      ProtectHome = true;
      ProtectKernelTunables = true;
      ProtectSystem = "strict";
      RestrictAddressFamilies = [
        "AF_INET"
        "AF_INET6"
        "AF_UNIX"
      ];
      SystemCallFilter = [ "@system-service" ];
    };
  };

  # Over the socket PostgreSQL takes the unit's user for the role: there is no password.
  localDatabase =
    prefix: service:
    lib.optionalAttrs cfg.createLocally {
      "${prefix}__HOST" = "/run/postgresql";
      "${prefix}__USER" = "paidonce-${service}";
      "${prefix}__NAME" = "paidonce-${service}";
    };
in
{
  options.services.paidonce = {
    enable = lib.mkEnableOption "the paidonce services";

    package = lib.mkOption {
      type = lib.types.package;
      default = self.packages.${pkgs.stdenv.hostPlatform.system}.paidonce;
      description = "The package with the paidonce binary.";
    };

    createLocally = lib.mkOption {
      type = lib.types.bool;
      default = true;
      description = "Whether to run PostgreSQL and RabbitMQ on this machine for the services.";
    };

    listen = lib.mkOption {
      type = lib.types.str;
      default = "127.0.0.1:8000";
      description = "Address of the gateway, the only door for clients.";
    };

    settings = lib.mkOption {
      type = lib.types.attrsOf lib.types.str;
      default = { };
      description = "Further variables, given to each service: `RABBITMQ__HOST`, `REDRIVE_AFTER`, …";
    };

    environmentFile = lib.mkOption {
      type = lib.types.nullOr lib.types.path;
      default = null;
      description = "File with secret variables, read by systemd for each service.";
    };
  };

  config = lib.mkIf cfg.enable {
    services.postgresql = lib.mkIf cfg.createLocally {
      enable = true;
      ensureDatabases = [
        "paidonce-orders"
        "paidonce-payments"
      ];
      ensureUsers =
        map
          (name: {
            inherit name;
            ensureDBOwnership = true;
          })
          [
            "paidonce-orders"
            "paidonce-payments"
          ];
    };

    services.rabbitmq = lib.mkIf cfg.createLocally {
      enable = true;
      # As in deploy/rabbitmq.conf.
      configItems.max_message_size = "131072";
    };

    systemd.services = {
      paidonce-orders = unit "orders" (
        {
          ORDERS__LISTEN = "127.0.0.1:8001";
          ORDERS__OPS_LISTEN = "127.0.0.1:9001";
        }
        // localDatabase "DB_ORDERS" "orders"
      );
      paidonce-payments = unit "payments" (
        {
          PAYMENTS__LISTEN = "127.0.0.1:8002";
          PAYMENTS__OPS_LISTEN = "127.0.0.1:9002";
        }
        // localDatabase "DB_PAYMENTS" "payments"
      );
      paidonce-gateway = unit "gateway" {
        ORDERS_SERVICE_URL = "http://127.0.0.1:8001";
        PAYMENTS_SERVICE_URL = "http://127.0.0.1:8002";
        GATEWAY__LISTEN = cfg.listen;
        GATEWAY__OPS_LISTEN = "127.0.0.1:9000";
      };
    };
  };
}
