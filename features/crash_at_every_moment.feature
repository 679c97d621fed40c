Feature: A service may die at any moment of its work
  It dies between two effects, as by `kill -9`; what was under way is done once, when it is back.

  @A1 @A2 @A6 @A7 @A13 @A14 @A15 @A19
  Scenario Outline: <service> dies at <moment>
    Given <service> will die when it comes to "<moment>" for the 30th time
    And the system is running
    And orders keep coming in
    Then <service> is dead
    When <service> starts again
    And the orders stop coming in
    Then every order is finished
    And no payment was asked for a second time

    Examples:
      | service  | moment                |
      | Orders   | orders.taken          |
      | Orders   | orders.stored         |
      | Orders   | orders.answered       |
      | Orders   | relay.taken           |
      | Orders   | relay.published       |
      | Orders   | relay.confirmed       |
      | Orders   | relay.marked          |
      | Orders   | consumer.delivered    |
      | Orders   | consumer.begun        |
      | Orders   | consumer.marked       |
      | Orders   | orders.locked         |
      | Orders   | orders.settled        |
      | Orders   | consumer.handled      |
      | Orders   | consumer.committed    |
      | Orders   | consumer.acknowledged |
      | Payments | consumer.delivered    |
      | Payments | consumer.begun        |
      | Payments | consumer.marked       |
      | Payments | payments.locked       |
      | Payments | payments.decided      |
      | Payments | payments.written      |
      | Payments | consumer.handled      |
      | Payments | consumer.committed    |
      | Payments | consumer.acknowledged |
      | Payments | relay.taken           |
      | Payments | relay.published       |
      | Payments | relay.confirmed       |
      | Payments | relay.marked          |

  @A5
  Scenario Outline: <service> dies with rows claimed that an earlier process left
    Given <service> will die when it comes to "relay.taken" for the 30th time
    And the system is running
    And orders keep coming in
    Then <service> is dead
    When <service> will die when it comes to "relay.claimed"
    And <service> starts again
    Then <service> is dead
    When <service> starts again
    And the orders stop coming in
    Then every order is finished

    Examples:
      | service  |
      | Orders   |
      | Payments |

  @A12
  Scenario Outline: Orders dies at <moment>
    Given Orders asks again soon for what stays open
    And Orders will die when it comes to "<moment>"
    And the system is running
    And Ana has an account with 100.00
    And Payments is down
    And Ana has ordered for 30.00
    Then Orders is dead
    When Orders starts again
    And Payments starts again
    Then Ana's order is finished
    And Ana's balance is 70.00

    Examples:
      | moment                       |
      | orders.asked_again           |
      | orders.asked_again_committed |

  @D9 @A13
  Scenario: Payments dies at payments.set_aside, while orders wait for an account
    Given Payments will die when it comes to "payments.set_aside"
    And the system is running
    And Ana has an account with 10.00
    And somebody else holds Ana's account locked
    When Ana orders 15 times for 1.00, all at once
    Then Payments is dead
    When Payments starts again
    And the lock is let go
    Then 10 of Ana's orders are finished and 5 are cancelled
    And Ana's balance is 0.00

  @D9 @A14 @A15
  Scenario Outline: Payments dies at <moment>, with orders that have waited for an account
    Given Payments will die when it comes to "<moment>"
    And the system is running
    And Ana has an account with 10.00
    And somebody else holds Ana's account locked
    When Ana orders 15 times for 1.00, all at once
    Then no request is left in the queue
    When the lock is let go
    Then Payments is dead
    When Payments starts again
    Then 10 of Ana's orders are finished and 5 are cancelled
    And Ana's balance is 0.00

    Examples:
      | moment                        |
      | payments.worked_off           |
      | payments.worked_off_committed |

  @exhaustive
  Scenario Outline: <service> dies at <moment>, and comes back after a while
    Given <service> will die when it comes to "<moment>" for the 30th time
    And the system is running
    And orders keep coming in
    Then <service> is dead
    When <service> has been dead for a while
    And <service> starts again
    And the orders stop coming in
    Then every order is finished

    Examples:
      | service  | moment                |
      | Orders   | orders.taken          |
      | Orders   | orders.stored         |
      | Orders   | orders.answered       |
      | Orders   | relay.taken           |
      | Orders   | relay.published       |
      | Orders   | relay.confirmed       |
      | Orders   | relay.marked          |
      | Orders   | consumer.delivered    |
      | Orders   | consumer.begun        |
      | Orders   | consumer.marked       |
      | Orders   | orders.locked         |
      | Orders   | orders.settled        |
      | Orders   | consumer.handled      |
      | Orders   | consumer.committed    |
      | Orders   | consumer.acknowledged |
      | Payments | consumer.delivered    |
      | Payments | consumer.begun        |
      | Payments | consumer.marked       |
      | Payments | payments.locked       |
      | Payments | payments.decided      |
      | Payments | payments.written      |
      | Payments | consumer.handled      |
      | Payments | consumer.committed    |
      | Payments | consumer.acknowledged |
      | Payments | relay.taken           |
      | Payments | relay.published       |
      | Payments | relay.confirmed       |
      | Payments | relay.marked          |
