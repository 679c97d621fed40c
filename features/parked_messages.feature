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

  @B13
  Scenario: The broker gives a request up while there is no queue for dead ones
    Given Payments is down
    And Ana has ordered for 30.00
    When the queue of dead requests is deleted
    And a stranger refuses the waiting requests for good
    Then there is no queue of dead requests
    When Payments starts again
    Then the operator sees one message of Payments, parked as dead_lettered
    When the operator replays it
    Then Ana's order is finished
    And Ana's balance is 70.00

  @B13
  Scenario: The broker gives more requests up than there is room for
    Given Payments is down
    When an administrator leaves room for 1 dead request
    And Ana orders 50 times for 1.00, all at once
    And a stranger refuses the waiting requests for good
    Then the broker has no place for some dead requests
    When Payments starts again
    Then Payments has parked all 50 requests as dead_lettered
    When the operator replays all of them
    Then 50 of Ana's orders are finished and 0 are cancelled
    And Ana's balance is 50.00

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
  Scenario: A result for an order that is not there comes again when it is
    Given Payments is down
    When Ana orders for 30.00
    Then the requests wait in the queue
    When Orders forgets its first order, and its number is given out again
    And Payments starts again
    Then the operator sees one message of Orders, parked as unknown_order
    When the forgotten order is written back under another number
    And the request for Ana's order comes after all, under a new id
    Then Ana's order is finished
    And Ana's balance is 70.00
    And the operator sees no parked message

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

  @C4
  Scenario: A message of an unknown type is not sent again as one that is known
    Given Ana has ordered for 1.00
    When Payments is sent a message "of an unknown type"
    Then the operator sees one message of Payments, parked as unknown_type
    And Payments shows to its operators 1 message parked as unknown_type
    When the operator is not allowed to replay it, because nobody reads its type
    And the operator drops it
    Then the operator sees no parked message

  @C9
  Scenario: Other content under the id of a message that was processed
    When Ana orders for 1.00
    Then Ana's order is finished
    When Payments is sent the id of the request for Ana's order with another amount
    Then the operator sees one message of Payments, parked as conflict
    And Payments shows to its operators 1 message parked as conflict
    And Payments shows to its operators 1 conflict
    And Ana's order is still finished
    And Ana's balance is 99.00
