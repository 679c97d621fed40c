@sample
Feature: An order waits for its payment as long as it takes
  Orders are accepted while Payments is away, and paid when it is there.

  Scenario: Payments comes back long after the order was placed
    Given the system is running
    And Ana has an account with 100.00
    And Payments is down
    When Ana orders for 30.00
    Then the requests wait in the queue
    And Ana's order is still open
    When Payments starts again
    Then Ana's order is finished
    And Ana's balance is 70.00
    And no payment was asked for a second time

  @B18
  Scenario: Payments starts for the first time after the order was placed
    Given nothing of the system is running
    And Orders starts
    And the gateway starts
    And Orders is ready for everything
    And the gateway is alive
    When Ben orders for 30.00
    Then the requests wait in the queue
    And Ben's order is still open
    When Payments starts
    Then Ben's order is cancelled

  Scenario: Orders comes back long after the payment was made
    Given the system is running
    And Ana has an account with 100.00
    And Payments is down
    When Ana orders for 30.00
    Then the requests wait in the queue
    When Orders is killed
    And Payments starts again
    Then the results wait in the queue
    When Orders starts again
    Then Ana's order is finished
    And Ana's balance is 70.00
