@sample
Feature: Money is spent once, however many orders want it
  As many orders are finished as the balance pays for, and not one more.

  Background:
    Given the system is running

  @A23
  Scenario: One customer orders more than she can pay for, all at once
    Given Ana has an account with 10.00
    When Ana orders 40 times for 1.00, all at once
    Then 10 of Ana's orders are finished and 30 are cancelled
    And Ana's balance is 0.00

  @A23
  Scenario: What is too large is declined, and what is left is still spent to the cent
    Given Ana has an account with 10.01
    When Ana orders 5 times for 3.00, all at once
    Then 3 of Ana's orders are finished and 2 are cancelled
    And Ana's balance is 1.01

  @A23 @L5
  Scenario: Customers with and without money order side by side
    Given 3 customers have an account with 5.00 each
    And 2 customers have no account
    When every customer orders 10 times for 1.00, all at once
    Then 15 orders are finished and 35 are cancelled

  @A24
  Scenario: A customer orders and pays in at the same time
    Given Ana has an account with 40.00
    When Ana orders 40 times for 1.00 while she makes 40 deposits of 1.00
    Then 40 of Ana's orders are finished and 0 are cancelled
    And Ana's balance is 40.00

  @A24
  Scenario: A customer orders and pays in at the same time, and the database is far away
    Given Ana has an account with 40.00
    And Payments is far away from its database
    When Ana orders 40 times for 1.00 while she makes 40 deposits of 1.00
    Then 40 of Ana's orders are finished and 0 are cancelled
    And Ana's balance is 40.00
