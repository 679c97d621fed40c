@sample
Feature: A service that dies loses nothing
  A killed service finishes, when it is back, what it had accepted, and nobody pays twice for it.

  Background:
    Given the system is running
    And orders keep coming in

  @A13 @A14 @A15
  Scenario: Payments is killed in the middle of its work
    When Payments is killed while orders are under way
    Then open orders pile up
    And no customer is turned away
    When Payments starts again
    And the orders stop coming in
    Then every order is finished
    And no payment was asked for a second time

  @A1 @A2 @A5 @A6 @A7 @A19
  Scenario: Orders is killed in the middle of its work
    When Orders is killed while orders are under way
    Then customers are turned away
    When Orders starts again
    And the orders stop coming in
    Then every order is finished
    And no payment was asked for a second time

  @E14
  Scenario: The gateway is killed in the middle of its work
    When the gateway is killed while orders are under way
    Then customers are turned away
    When the gateway starts again
    And the orders stop coming in
    Then every order is finished

  @A13 @A19
  Scenario: Both are killed, and come back in the other order
    When Payments is killed while orders are under way
    Then open orders pile up
    When Orders is killed
    Then customers are turned away
    When Orders starts again
    And Payments starts again
    And the orders stop coming in
    Then every order is finished
