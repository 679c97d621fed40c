Feature: An operator decides what becomes of a message that was set aside
  It is listed, and can be sent again or let go. Nothing that happens to it charges an order twice.

  Background:
    Given the system is running
    And Ana has an account with 100.00

  @B11
  Scenario: A request that the broker gave up is sent again
    Given Payments is down
    When Ana orders for 30.00
    And the broker gives the request for Ana's order up
    And Payments starts again
    Then the operator sees one message of Payments, parked as dead_lettered
    And Ana's order is still open
    When the operator replays it
    Then Ana's order is finished
    And Ana's balance is 70.00
    And the operator sees no parked message

  @F11
  Scenario: Two operators send the same message again at once
    Given Payments is down
    When Ana orders for 30.00
    And the broker gives the request for Ana's order up
    And Payments starts again
    Then the operator sees one message of Payments, parked as dead_lettered
    When two operators replay it at once
    Then one of them is told that it is replayed already
    And Ana's order is finished
    And Ana's balance is 70.00
    And the operator sees no parked message

  @F10
  Scenario: A message that was set aside comes again by itself
    Given Payments is down
    When Ana orders for 30.00
    And the broker gives the request for Ana's order up
    And Payments starts again
    Then the operator sees one message of Payments, parked as dead_lettered
    When the request for Ana's order comes after all, under its own id
    Then Ana's order is finished
    And Ana's balance is 70.00
    And the operator sees no parked message

  Scenario: What was parked about an order is done with when the order is decided
    Given Payments is down
    When Ana orders for 30.00
    And the broker gives the request for Ana's order up
    And Payments starts again
    Then the operator sees one message of Payments, parked as dead_lettered
    When the request for Ana's order comes after all, under a new id
    Then Ana's order is finished
    And Ana's balance is 70.00
    And the operator sees no parked message

  @F14
  Scenario: A message of a version to come waits for the service that can read it
    Given Ana has ordered for 1.00
    When Payments is sent a message "of a version to come"
    Then the operator sees one message of Payments, parked as unknown_version
    When the operator replays it
    Then the operator sees it parked once more
    When the operator drops it
    Then the operator sees no parked message

  @C9
  Scenario: Other content under the id of a message that was processed
    When Ana orders for 1.00
    Then Ana's order is finished
    When Payments is sent the id of the request for Ana's order with another amount
    Then the operator sees one message of Payments, parked as conflict
    And Ana's order is still finished
    And Ana's balance is 99.00
