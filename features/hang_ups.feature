Feature: A customer who hangs up harms nobody
  What was cut short is done or not done, and no other customer's money hangs on it.

  @A4
  Scenario Outline: A customer hangs up on <service> in the middle of deposits, at any moment
    Given the system is running
    And Ana has an account with 0.00
    And Ben has an account with 0.00
    And Payments is far away from its database
    When Ana makes 40 deposits of 1.00 while Ben hangs up on 100 of 1.00, at <service>
    Then Ana's balance is 40.00

    Examples:
      | service     |
      | the gateway |
      | Payments    |
