@serial
Feature: A database outage turns customers away, and loses nothing
  What was accepted before is paid when the databases are back.

  @D2 @A17
  Scenario: Both databases are killed
    Given the system is running
    And orders keep coming in
    When the databases are killed while orders are under way
    Then customers are turned away
    And Orders does not accept requests
    When the databases come back
    Then every service is ready within 15 seconds
    When the orders stop coming in
    Then no order is open after 30 seconds
    And every order is finished
    And no payment was asked for a second time

  @D1
  Scenario: Both databases are restarted
    Given the system is running
    And orders keep coming in
    When the databases are stopped while orders are under way
    Then customers are turned away
    When the databases come back
    Then every service is ready within 15 seconds
    When the orders stop coming in
    Then no order is open after 30 seconds
    And every order is finished
    And no payment was asked for a second time

  @D14
  Scenario: Both databases are frozen
    Given the system is running
    And orders keep coming in
    When the databases are frozen while orders are under way
    Then customers are turned away
    And Orders does not accept requests
    When the databases are thawed
    Then every service is ready within 15 seconds
    When the orders stop coming in
    Then no order is open after 30 seconds
    And every order is finished
    And no payment was asked for a second time

  @containers @F9
  Scenario: The databases can reach nobody any more, and nobody has said good-bye
    Given nothing lies between the services and the databases
    And the system is running
    And orders keep coming in
    When the databases are cut off from everybody while orders are under way
    Then the databases have given up every session of the services within 45 seconds
    When the databases can be reached again
    Then every service is ready within 15 seconds
    When the orders stop coming in
    Then every order is finished
    And no payment was asked for a second time
