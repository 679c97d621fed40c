# One virtual machine with PostgreSQL, RabbitMQ and the three services: an order is paid through
# the gateway, then another one that was placed while the broker was away.
self: {
  name = "paidonce";

  nodes.machine =
    { pkgs, ... }:
    {
      imports = [ self.nixosModules.default ];
      services.paidonce.enable = true;
      virtualisation.memorySize = 2048;
      environment.systemPackages = [
        self.packages.${pkgs.stdenv.hostPlatform.system}.paidonce
        pkgs.curl
        pkgs.jq
      ];
    };

  testScript = ''
    import json

    base = "http://127.0.0.1:8000/v1"


    def call(method, path, body=None):
        data = "" if body is None else f"-H 'content-type: application/json' -d '{json.dumps(body)}'"
        return json.loads(machine.succeed(f"curl -sSf -X {method} {data} '{base}{path}'"))


    def place(amount):
        return call("POST", "/orders/", {"user_id": 101, "amount": amount, "description": "vm"})


    def wait_paid(order):
        machine.wait_until_succeeds(
            f"curl -sSf '{base}/orders/{order['id']}?user_id=101' | jq -e '.status == \"FINISHED\"'",
            timeout=90,
        )


    for service in ["orders", "payments", "gateway"]:
        machine.wait_for_unit(f"paidonce-{service}.service")
        machine.wait_until_succeeds(f"paidonce healthcheck {service}", timeout=60)

    with subtest("an order is paid once"):
        call("POST", "/accounts", {"user_id": 101})
        call("POST", "/accounts/deposit", {"user_id": 101, "amount": "500.00"})
        wait_paid(place("150.00"))
        assert call("GET", "/accounts/101")["balance"] == "350.00"

    with subtest("an order placed without a broker is paid when it is back"):
        machine.succeed("systemctl stop rabbitmq.service")
        order = place("50.00")
        assert order["status"] == "NEW"
        machine.succeed("systemctl start rabbitmq.service")
        wait_paid(order)
        assert call("GET", "/accounts/101")["balance"] == "300.00"
  '';
}
