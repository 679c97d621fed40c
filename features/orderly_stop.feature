Feature: A service that is asked to stop, stops soon and loses nothing
  It finishes what it has begun, whatever is still coming in.

  @E1
  Scenario Outline: <service> is asked to stop while orders are under way
    Given the system is running
    And orders keep coming in
    When <service> is asked to stop while orders are under way
    And <service> starts again
    And the orders stop coming in
    Then every order is finished
    And no payment was asked for a second time

    Examples:
      | service     |
      | Orders      |
      | Payments    |
      | the gateway |
