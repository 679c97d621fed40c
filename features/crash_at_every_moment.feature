Feature: A service may die at any moment of its work
  It dies between two effects, as by `kill -9`; what was under way is done once, when it is back.

  @A1 @A2 @A6 @A7 @A13 @A14 @A15 @A19
  Scenario Outline: <service> dies at <moment>
    Given <service> will die at one of the times it comes to "<moment>"
    And the system is running
    And orders keep coming in
    Then <service> is dead
    When <service> comes back at once
    And the orders stop coming in
    Then every order is finished
    And no payment was asked for a second time
    And no message went out under two ids

    Examples:
      | service  | moment                |
      | Orders   | orders.taken          |
      | Orders   | orders.stored         |
      | Orders   | orders.answered       |
      | Orders   | relay.taken           |
      | Orders   | relay.published       |
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
      | Payments | consumer.acknowledged |
      | Payments | relay.taken           |
      | Payments | relay.published       |
      | Payments | relay.confirmed       |
      | Payments | relay.marked          |

  @A7 @A15
  Scenario Outline: <service> dies at <moment>, and does again what it cannot know to be done
    Given <service> will die at one of the times it comes to "<moment>"
    And the system is running
    And orders keep coming in
    Then <service> is dead
    When <service> comes back at once
    And the orders stop coming in
    Then every order is finished
    And some requests were delivered twice
    And no payment was asked for a second time
    And no message went out under two ids

    Examples:
      | service  | moment             |
      | Orders   | relay.confirmed    |
      | Payments | consumer.committed |

  @A5
  Scenario Outline: <service> dies with rows claimed that an earlier process left, and comes back <when>
    Given <service> will die at one of the times it comes to "relay.taken"
    And the system is running
    And orders keep coming in
    Then <service> is dead
    When <service> will die when it comes to "relay.claimed"
    And <service> starts again
    Then <service> is dead
    When <service> comes back <when>
    And the orders stop coming in
    Then every order is finished

    Examples:
      | service  | when    |
      | Orders   | at once |
      | Payments | at once |

    @exhaustive
    Examples:
      | service  | when          |
      | Orders   | after a while |
      | Payments | after a while |

  @A12
  Scenario Outline: Orders dies at <moment>, and comes back <when>
    Given Orders asks again soon for what stays open
    And Orders will die when it comes to "<moment>"
    And the system is running
    And Ana has an account with 100.00
    And Payments is down
    And Ana has ordered for 30.00
    Then Orders is dead
    When the waiting requests are purged
    And Orders comes back <when>
    And Payments starts again
    Then Ana's order is finished
    And Ana's balance is 70.00
    And payments were asked for a second time
    And no message went out under two ids

    Examples:
      | moment                       | when    |
      | orders.asked_again           | at once |
      | orders.asked_again_committed | at once |

    @exhaustive
    Examples:
      | moment                       | when          |
      | orders.asked_again           | after a while |
      | orders.asked_again_committed | after a while |

  @D9 @A13
  Scenario Outline: Payments dies at payments.set_aside, while orders wait for an account, and comes back <when>
    Given Payments will die when it comes to "payments.set_aside"
    And the system is running
    And Ana has an account with 10.00
    And somebody else holds Ana's account locked
    When Ana orders 15 times for 1.00, all at once
    Then Payments is dead
    When Payments comes back <when>
    And the lock is let go
    Then 10 of Ana's orders are finished and 5 are cancelled
    And Ana's balance is 0.00

    Examples:
      | when    |
      | at once |

    @exhaustive
    Examples:
      | when          |
      | after a while |

  @D9 @A14 @A15
  Scenario Outline: Payments dies at <moment>, with orders that have waited for an account, and comes back <when>
    Given Payments will die when it comes to "<moment>"
    And the system is running
    And Ana has an account with 10.00
    And somebody else holds Ana's account locked
    When Ana orders 15 times for 1.00, all at once
    Then no request is left in the queue
    When the lock is let go
    Then Payments is dead
    When Payments comes back <when>
    Then 10 of Ana's orders are finished and 5 are cancelled
    And Ana's balance is 0.00

    Examples:
      | moment                        | when    |
      | payments.worked_off           | at once |
      | payments.worked_off_committed | at once |

    @exhaustive
    Examples:
      | moment                        | when          |
      | payments.worked_off           | after a while |
      | payments.worked_off_committed | after a while |

  @A5 @A21 @exhaustive
  Scenario Outline: <service> dies with rows claimed that an earlier process left, beside another one
    Given a balancer in front of Orders and Payments
    And <service> will die at one of the times it comes to "relay.taken"
    And the system is running
    And the second Orders is running
    And the second Payments is running
    And orders keep coming in
    Then <service> is dead
    When the second <service> is frozen
    And <service> will die when it comes to "relay.claimed"
    And <service> starts again
    Then <service> is dead
    When the second <service> is thawed
    Then 20 more orders are finished all the same
    When <service> comes back <when>
    And the orders stop coming in
    Then every order is finished

    Examples:
      | service  | when          |
      | Orders   | at once       |
      | Orders   | after a while |
      | Payments | at once       |
      | Payments | after a while |

  @A12 @A21 @exhaustive
  Scenario Outline: Orders dies at <moment> beside another one, and comes back <when>
    Given a balancer in front of Orders and Payments
    And Orders asks again soon for what stays open
    And Orders will die when it comes to "<moment>"
    And the system is running
    And the second Orders is running
    And Ana has an account with 100.00
    And Payments is down
    And Ana has ordered for 30.00
    When the second Orders is frozen
    Then Orders is dead
    When the waiting requests are purged
    And the second Orders is thawed
    And Payments starts again
    Then Ana's order is finished
    And payments were asked for a second time
    When Orders comes back <when>
    Then Ana's balance is 70.00

    Examples:
      | moment                       | when          |
      | orders.asked_again           | at once       |
      | orders.asked_again           | after a while |
      | orders.asked_again_committed | at once       |
      | orders.asked_again_committed | after a while |

  @D9 @A13 @A21 @exhaustive
  Scenario Outline: Payments dies at payments.set_aside beside another one, and comes back <when>
    Given a balancer in front of Orders and Payments
    And Payments will die when it comes to "payments.set_aside"
    And the system is running
    And the second Payments is running
    And Ana has an account with 10.00
    And somebody else holds Ana's account locked
    When Ana orders 15 times for 1.00, all at once
    Then Payments is dead
    When the lock is let go
    Then 10 of Ana's orders are finished and 5 are cancelled
    When Payments comes back <when>
    Then Ana's balance is 0.00

    Examples:
      | when          |
      | at once       |
      | after a while |

  @D9 @A14 @A15 @A21 @exhaustive
  Scenario Outline: Payments dies at <moment>, beside another one, with orders that have waited, and comes back <when>
    Given a balancer in front of Orders and Payments
    And Payments will die when it comes to "<moment>"
    And the system is running
    And the second Payments is running
    And Ana has an account with 10.00
    And somebody else holds Ana's account locked
    When Ana orders 15 times for 1.00, all at once
    Then no request is left in the queue
    When the second Payments is frozen
    And the lock is let go
    Then Payments is dead
    When the second Payments is thawed
    Then 10 of Ana's orders are finished and 5 are cancelled
    When Payments comes back <when>
    Then Ana's balance is 0.00

    Examples:
      | moment                        | when          |
      | payments.worked_off           | at once       |
      | payments.worked_off           | after a while |
      | payments.worked_off_committed | at once       |
      | payments.worked_off_committed | after a while |

  @exhaustive
  Scenario Outline: <service> dies at <moment>, and comes back after a while
    Given <service> will die at one of the times it comes to "<moment>"
    And the system is running
    And orders keep coming in
    Then <service> is dead
    When <service> comes back after a while
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

  @A1 @A5 @A6 @A7 @A13 @A14 @A15 @A21
  Scenario Outline: <service> dies at <moment> beside another one, and comes back <when>
    Given a balancer in front of Orders and Payments
    And <service> will die at one of the times it comes to "<moment>"
    And the system is running
    And the second Orders is running
    And the second Payments is running
    And orders keep coming in
    Then <service> is dead
    And 20 more orders are finished all the same
    When <service> comes back <when>
    And the orders stop coming in
    Then every order is finished
    And no payment was asked for a second time
    And no message went out under two ids

    Examples:
      | service  | moment             | when    |
      | Orders   | orders.stored      | at once |
      | Orders   | relay.published    | at once |
      | Orders   | relay.confirmed    | at once |
      | Payments | consumer.marked    | at once |
      | Payments | payments.written   | at once |
      | Payments | consumer.committed | at once |

    @exhaustive
    Examples:
      | service  | moment                | when    |
      | Orders   | orders.taken          | at once |
      | Orders   | orders.answered       | at once |
      | Orders   | relay.taken           | at once |
      | Orders   | relay.marked          | at once |
      | Orders   | consumer.delivered    | at once |
      | Orders   | consumer.begun        | at once |
      | Orders   | consumer.marked       | at once |
      | Orders   | orders.locked         | at once |
      | Orders   | orders.settled        | at once |
      | Orders   | consumer.handled      | at once |
      | Orders   | consumer.committed    | at once |
      | Orders   | consumer.acknowledged | at once |
      | Payments | consumer.delivered    | at once |
      | Payments | consumer.begun        | at once |
      | Payments | payments.locked       | at once |
      | Payments | payments.decided      | at once |
      | Payments | consumer.handled      | at once |
      | Payments | consumer.acknowledged | at once |
      | Payments | relay.taken           | at once |
      | Payments | relay.published       | at once |
      | Payments | relay.confirmed       | at once |
      | Payments | relay.marked          | at once |

    @exhaustive
    Examples:
      | service  | moment                | when          |
      | Orders   | orders.taken          | after a while |
      | Orders   | orders.stored         | after a while |
      | Orders   | orders.answered       | after a while |
      | Orders   | relay.taken           | after a while |
      | Orders   | relay.published       | after a while |
      | Orders   | relay.confirmed       | after a while |
      | Orders   | relay.marked          | after a while |
      | Orders   | consumer.delivered    | after a while |
      | Orders   | consumer.begun        | after a while |
      | Orders   | consumer.marked       | after a while |
      | Orders   | orders.locked         | after a while |
      | Orders   | orders.settled        | after a while |
      | Orders   | consumer.handled      | after a while |
      | Orders   | consumer.committed    | after a while |
      | Orders   | consumer.acknowledged | after a while |
      | Payments | consumer.delivered    | after a while |
      | Payments | consumer.begun        | after a while |
      | Payments | consumer.marked       | after a while |
      | Payments | payments.locked       | after a while |
      | Payments | payments.decided      | after a while |
      | Payments | payments.written      | after a while |
      | Payments | consumer.handled      | after a while |
      | Payments | consumer.committed    | after a while |
      | Payments | consumer.acknowledged | after a while |
      | Payments | relay.taken           | after a while |
      | Payments | relay.published       | after a while |
      | Payments | relay.confirmed       | after a while |
      | Payments | relay.marked          | after a while |
