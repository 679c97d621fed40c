Feature: A part of a service that panics is started again, or takes the service with it
  A task that is gone must not hide behind a process that is there.

  @E2
  Scenario Outline: Something of <service> panics once
    Given <service> will panic 1 time when it comes to "<moment>"
    And the system is running
    And Ana has an account with 100.00
    When Ana orders for 30.00
    Then Ana's order is finished
    And <service> has panicked 1 time, and goes on
    And Ana's balance is 70.00
    And <service> is ready for everything
    And nothing was parked

    Examples:
      | service  | moment           |
      | Orders   | relay.taken      |
      | Orders   | consumer.handled |
      | Payments | relay.confirmed  |
      | Payments | consumer.handled |

  @E2
  Scenario Outline: Something of <service> panics again and again
    Given <service> will panic 3 times when it comes to "<moment>"
    And the system is running
    And Ana has an account with 100.00
    When Ana orders for 30.00
    Then <service> has given up after 3 panics
    When <service> starts again
    Then Ana's order is finished
    And Ana's balance is 70.00
    And <service> is ready for everything
    And nothing was parked

    Examples:
      | service  | moment           |
      | Orders   | consumer.handled |
      | Payments | consumer.handled |
