@serial @containers
Feature: A full disk turns customers away, and loses nothing
  It is over as soon as there is room again; nobody restarts anything.

  @D11
  Scenario: The disk of Orders's database is full
    Given the database of Orders is on a small disk
    And the system is running
    And orders keep coming in
    When the disk of Orders's database fills up
    Then customers are turned away
    When there is room again on the disk
    Then Orders is ready for everything
    When the orders stop coming in
    Then every order is finished
    And no payment was asked for a second time

  @D11
  Scenario: The disk of Orders's database is so full that no session can begin
    Given the database of Orders is on a small disk
    And the system is running
    And orders keep coming in
    When the disk of Orders's database fills up
    And no session can begin in the database of Orders any more
    Then who orders is told to come back later
    When there is room again on the disk
    Then Orders is ready for everything
    When the orders stop coming in
    Then every order is finished

  @D11
  Scenario: The disk of Payments's database is full
    Given the database of Payments is on a small disk
    And the system is running
    And Ana has an account with 100.00
    And orders keep coming in
    When the disk of Payments's database fills up
    Then open orders pile up
    And no customer is turned away
    And Ana is told to pay in later
    When there is room again on the disk
    Then Payments is ready for everything
    When the orders stop coming in
    Then every order is finished
    And nothing was parked
    And no payment was asked for a second time
