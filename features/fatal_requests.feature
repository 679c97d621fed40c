Feature: A request that kills whoever takes it in
  It is found among its neighbours and set aside, and they are paid.

  @F3
  Scenario: One request among many kills every Payments that takes it in
    Given each Payments process takes 200 messages at a time
    And Payments dies of any order for 6.66
    And the system is running
    And 10 customers have an account with 15.00 each
    And Ana has an account with 10.00
    And Payments is down
    And every customer has ordered 10 times for 1.00
    And Ana has ordered for 6.66
    And every customer has ordered 5 times for 1.00
    When somebody locks all accounts
    And Payments starts
    And the second Payments starts
    Then 151 requests are in the hands of Payments
    When the accounts are free again
    And both Payments are started again whenever they die, until a request is parked
    Then the operator sees one message of Payments, parked as attempts
    And it is the request for Ana's order
    And one has died of it among others, and 3 times one has died of it alone
    And every order but Ana's is finished
    And Ana's order is still open
    When Payments dies of no order any more
    And the operator replays it
    Then Ana's order is finished
    And Ana's balance is 3.34
    And the operator sees no parked message
    And no payment was asked for a second time

  @F3
  Scenario: Payments dies three times over the same requests, none of which is to blame
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
    Then no request is left in the queue
    And nothing was parked
    And 20 orders are finished and 0 are cancelled
    And no payment was asked for a second time
