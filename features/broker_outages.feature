@serial @sample
Feature: A broker outage delays payments, and loses and repeats none
  Orders are accepted meanwhile, and paid when the broker is back.

  Background:
    Given the system is running
    And orders keep coming in

  @B1
  Scenario: The broker is restarted
    When the broker is restarted while orders are under way
    Then open orders pile up
    And no customer is turned away
    When the broker comes back
    Then every service is ready within 15 seconds
    When the orders stop coming in
    Then no order is open after 30 seconds
    And every order is finished
    And no payment was asked for a second time

  @B2
  Scenario: The broker is killed
    When the broker is killed while orders are under way
    Then open orders pile up
    And no customer is turned away
    When the broker comes back
    Then every service is ready within 15 seconds
    When the orders stop coming in
    Then no order is open after 30 seconds
    And every order is finished
    And no payment was asked for a second time

  @B4
  Scenario: The broker is frozen
    When the broker is frozen while orders are under way
    Then Orders and Payments are not ready for everything within 12 seconds
    And no customer is turned away
    When the broker is thawed
    Then every service is ready within 15 seconds
    When the orders stop coming in
    Then no order is open after 30 seconds
    And every order is finished
    And no payment was asked for a second time

  @B2 @A13
  Scenario: The broker and Payments are killed together
    When the broker is killed while orders are under way
    And Payments is killed
    Then open orders pile up
    When Payments starts
    And the broker comes back
    Then every service is ready within 15 seconds
    When the orders stop coming in
    Then no order is open after 30 seconds
    And every order is finished
