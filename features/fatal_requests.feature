Feature: A request that kills whoever takes it in
  It is found among its neighbours and set aside, and they are paid.

  @F3
  Scenario: Payments dies three times over the same requests
    Given the system is running
    And 4 customers have an account with 10.00 each
    And Payments is down
    And every customer has ordered 5 times for 2.00
    And the requests wait in the queue
    When Payments will die when it comes to "consumer.begun"
    And Payments starts
    Then Payments is dead
    When Payments will die when it comes to "consumer.begun"
    And Payments starts
    Then Payments is dead
    When Payments will die when it comes to "consumer.begun"
    And Payments starts
    Then Payments is dead
    When Payments starts again
    Then 20 orders are finished and 0 are cancelled
    And nothing was parked
    And no payment was asked for a second time
