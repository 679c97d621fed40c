@sample
Feature: The parts of the system start in any order
  Each waits for what it needs, and says so.

  @B18
  Scenario Outline: <first>, then <second>, then <third>
    Given nothing of the system is running
    When <first> starts
    Then <first> is alive
    When <second> starts
    Then <second> is alive
    When <third> starts
    Then every service is ready
    When Ana opens an account with 100.00
    And Ana orders for 30.00
    Then Ana's order is finished
    And Ana's balance is 70.00

    Examples:
      | first       | second      | third       |
      | the gateway | Payments    | Orders      |
      | Payments    | Orders      | the gateway |
      | Orders      | the gateway | Payments    |

  @serial @B18
  Scenario: The broker comes last
    Given the broker is down
    When Orders starts
    And Payments starts
    And the gateway starts
    Then Orders accepts requests in the end
    And Payments accepts requests in the end
    And the gateway is alive
    When Ana opens an account with 100.00
    And Ana orders for 30.00
    Then Ana's order is still open
    When the broker comes back
    Then Ana's order is finished
    And Ana's balance is 70.00

  @serial @D2
  Scenario: The databases come last
    Given the databases are down
    When Orders starts
    And Payments starts
    And the gateway starts
    Then Orders is alive
    And Payments is alive
    And Orders does not accept requests
    And the gateway is alive
    And customers are told at once to come back later
    When the databases come back
    Then every service is ready
    When Ana opens an account with 100.00
    And Ana orders for 30.00
    Then Ana's order is finished
    And Ana's balance is 70.00

  Scenario: A service that waits for another to migrate its database takes no requests, and says so
    Given the database of Orders is being migrated by another process
    When Orders starts
    And Payments starts
    And the gateway starts
    Then Orders is alive
    And Orders does not accept requests
    And Orders is not ready for everything
    When the other process is done
    Then every service is ready
    When Ana opens an account with 100.00
    And Ana orders for 30.00
    Then Ana's order is finished
