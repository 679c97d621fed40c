Feature: What no transaction can prevent is noticed
  A fail-over, a forger or a hand in the database can break what the services keep. Then the order or the account is
  named within a minute, and nothing is named when all is well.

  Background:
    Given the system is running
    And Ana has an account with 100.00

  @C16
  Scenario: Somebody forges the news that an order is paid
    Given the books of both services are watched
    And Payments is down
    When Ana orders for 30.00
    And somebody forges the news that Ana's order is paid
    Then Ana's order is finished
    And within a minute the watch names Ana's order, finished and never debited
    When Payments starts again
    Then the watch says that it is over
    And Ana's balance is 70.00
    And who ends the watch is told that something was wrong

  @D5
  Scenario: A fail-over has lost what Payments had committed
    Given the books of both services are watched
    When Ana orders for 30.00
    Then Ana's order is finished
    And Ana's balance is 70.00
    When the database of Payments loses all that was committed about Ana's order
    Then Ana's balance is 100.00
    And within a minute the watch names Ana's order, finished and never debited
    And Payments is ready for everything
    When the payment for Ana's order is written back
    Then the watch says that it is over
    And Ana's balance is 70.00

  @D5
  Scenario: A fail-over has lost an order that was paid
    Given the books of both services are watched
    When Ana orders for 30.00
    Then Ana's order is finished
    When Orders forgets its first order, and its number is given out again
    Then within a minute the watch names a debit of 30.00 for Ana, without an order
    When the forgotten order is written back under another number
    Then the watch says that it is over

  @D24
  Scenario: Somebody changes a balance by hand
    Given the books of both services are watched
    And Ana has ordered for 30.00
    When 5.00 are put into Ana's account by hand
    Then Payments is not ready for everything
    And Payments says that Ana's balance is not the sum of her ledger
    And within a minute the watch names Ana's balance
    When 5.00 are taken from Ana's account by hand
    Then Payments is ready for everything
    And Payments says that all balances are right
    And the watch says that it is over

  Scenario: Traffic, a crash and an outage are no breach
    Given the books of both services are watched every second
    And orders keep coming in
    Then 300 more orders are accepted all the same
    When Payments is killed while orders are under way
    Then open orders pile up
    When Payments starts again
    And the way from Orders to its database is cut
    Then the watch says that it cannot see the database of Orders
    When every way is open again
    Then the watch sees everything again
    And 300 more orders are accepted all the same
    When the orders stop coming in
    Then every order is finished
    And who ends the watch is told that nothing was wrong, after 5 looks at least
