Feature: An account that somebody holds locked stalls nobody else
  Its own orders wait for it in their turn, and are decided as soon as it is free.

  Background:
    Given the system is running
    And Ana has an account with 10.00
    And 4 customers have an account with 10.00 each

  @D9 @L5
  Scenario: Ana's account is locked by somebody else
    Given somebody else holds Ana's account locked
    When Ana orders 15 times for 1.00, all at once
    And every customer orders 5 times for 1.00, all at once
    Then every order but Ana's is finished
    And no request is left in the queue
    And each of Ana's orders is still open
    When the lock is let go
    Then 10 of Ana's orders are finished and 5 are cancelled
    And Ana's balance is 0.00
    And nothing was parked
    And no payment was asked for a second time

  @D9 @L5 @A26
  Scenario Outline: Ana's account is locked while every message is delivered twice, under <identity>
    Given every message is delivered a second time, under <identity>
    And somebody else holds Ana's account locked
    When Ana orders 15 times for 1.00, all at once
    And every customer orders 5 times for 1.00, all at once
    Then every order but Ana's is finished
    And no request is left in the queue
    And each of Ana's orders is still open
    When the lock is let go
    Then 10 of Ana's orders are finished and 5 are cancelled
    And every message was delivered twice indeed
    And Ana's balance is 0.00

    Examples:
      | identity   |
      | its own id |
      | a new id   |

  @D9 @A13
  Scenario: Payments is killed while Ana's orders wait for her account
    Given somebody else holds Ana's account locked
    When Ana orders 15 times for 1.00, all at once
    Then no request is left in the queue
    And each of Ana's orders is still open
    When Payments is killed
    And the lock is let go
    And Payments starts again
    Then 10 of Ana's orders are finished and 5 are cancelled
    And Ana's balance is 0.00
    And no payment was asked for a second time

  @D9
  Scenario: All accounts are locked by somebody else
    Given somebody else holds all accounts locked
    When every customer orders 5 times for 1.00, all at once
    Then Payments is not ready for everything
    And Payments has tried in vain more often than a message may fail
    And every order is still open
    When the lock is let go
    Then every order is finished
    And nothing was parked
    And no payment was asked for a second time

  @F15 @D7
  Scenario: Orders come in the opposite order of the accounts, one of which somebody has locked
    Given Payments is down
    And every customer has ordered 40 times for 0.10
    When the waiting requests are put back in the opposite order of the customers
    And somebody locks the account of the customer in the middle
    And Payments starts
    Then Payments waits for that account, or has set its requests aside
    And whoever has locked it can lock all accounts behind it
    When the account is free again
    Then 160 orders are finished and 0 are cancelled
    And no transaction came into a deadlock
