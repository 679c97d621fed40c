Feature: The services tell the truth about themselves
  Whether they take requests, for whoever sends them some; whether everything works, for whoever is to be woken.

  @serial @L6 @E5
  Scenario: The broker is away
    Given the system is running
    And Ana has an account with 100.00
    And every service is ready
    When the broker cannot be reached
    Then Orders is not ready for everything
    And Payments is not ready for everything
    But Orders accepts requests all the same
    And Payments accepts requests all the same
    When Ana orders for 30.00
    Then Ana's order is still open
    When the broker can be reached again
    Then Orders is ready for everything
    And Payments is ready for everything
    And Ana's order is finished
    And no payment was asked for a second time

  @L6
  Scenario: The public learns that the system is up, and no more
    Given the system is running
    Then the public is told "ok" about the system

  @L6
  Scenario: The public learns that nothing is there any more
    Given the system is running
    When Orders is killed
    And Payments is killed
    Then the public is told "unavailable" about the system in the end

  Scenario: What was done is counted
    Given the system is running
    And Ana has an account with 100.00
    When Ana orders for 30.00
    Then Ana's order is finished
    And Orders counts 1 messages sent and 1 taken in, 0 of them known already
    And Payments counts 1 messages sent and 1 taken in, 0 of them known already
    When the request for Ana's order is delivered once more, under its own id
    Then Payments counts 2 messages sent and 2 taken in, 1 of them known already
    And Orders counts 1 messages sent and 2 taken in, 1 of them known already
