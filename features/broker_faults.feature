Feature: A broker that is there and does not do its work
  It is noticed, said, and over as soon as the cause is; nobody restarts anything.

  @serial @B5
  Scenario: The broker runs out of memory
    Given the system is running
    And orders keep coming in
    When the broker runs out of memory
    Then the broker blocks who publishes
    And Orders says "the broker blocks publishers"
    And Orders is not ready for everything
    But Orders accepts requests all the same
    And open orders pile up
    And no customer is turned away
    When the broker has memory again
    Then Orders is ready for everything
    When the orders stop coming in
    Then every order is finished
    And no payment was asked for a second time

  @B7
  Scenario: The broker closes the channel of whoever publishes
    Given the system is running
    And Ana has an account with 100.00
    When the exchange is deleted
    And Ana orders for 30.00
    Then Ana's order is finished
    And Orders is ready for everything
    And no payment was asked for a second time

  @B8
  Scenario: A queue is deleted while nobody has anything in it
    Given the system is running
    And Ana has an account with 100.00
    When the queue of requests is deleted
    And Ana orders for 30.00
    Then Ana's order is finished
    And Payments is ready for everything

  @B8 @A12
  Scenario: A queue is deleted with what is in it
    Given Orders asks again soon for what stays open
    And the system is running
    And Ana has an account with 100.00
    And Payments is down
    And Ana has ordered for 30.00
    And the requests wait in the queue
    When the queue of requests is deleted
    And Payments starts
    Then Ana's order is finished
    And payments were asked for a second time

  @B14
  Scenario: A queue exists with other arguments
    Given somebody has declared the queue of requests in another way
    And Orders starts
    And Payments starts
    And the gateway starts
    Then Payments accepts requests in the end
    And Orders accepts requests in the end
    And the gateway is alive
    When Ana opens an account with 100.00
    And Ana orders for 30.00
    Then Orders says "queue payments.requests exists with other arguments"
    And Orders is not ready for everything
    And Ana's order is still open
    When the queue of requests is deleted
    Then Orders is ready for everything
    And Ana's order is finished

  @B15
  Scenario: The permissions are revoked
    Given the system is running
    And Ana has an account with 100.00
    When the services may do nothing at the broker any more
    And Ana orders for 30.00
    Then Orders says "ACCESS_REFUSED"
    And Orders is not ready for everything
    And Ana's order is still open
    When the services may do everything at the broker again
    Then Ana's order is finished
    And Orders is ready for everything
    And Payments is ready for everything

  @F12
  Scenario: The password is changed
    Given the services have a login of their own at the broker
    And the system is running
    And Ana has an account with 100.00
    When the services' password at the broker is changed
    And Ana orders for 30.00
    Then Orders says "ACCESS_REFUSED"
    And Payments says "ACCESS_REFUSED"
    And Ana's order is still open
    When the services' password at the broker is as before
    Then Ana's order is finished
    And Orders is ready for everything
    And Payments is ready for everything

  @serial @F2
  Scenario Outline: A message cannot be sent because of <fault>
    Given Orders asks again soon for what stays open
    And the system is running
    And Ana has an account with 100.00
    And Ben has an account with 100.00
    And the broker is down
    And Ben has ordered for 10.00
    And Ana has ordered for 30.00
    And Ben has ordered for 20.00
    And Orders is down
    When the request for Ana's order is spoilt by "<fault>"
    And Orders starts
    And the broker comes back
    Then Orders has set the spoilt request aside
    And 2 of Ben's orders are finished and 0 are cancelled
    And Ana's order is finished

    Examples:
      | fault                      |
      | a header beyond all bounds |
      | a body beyond all bounds   |
      | a type beyond all bounds   |

  @serial @F6
  Scenario: The broker manages few messages in a second
    Given the system is running
    And orders keep coming in
    When the way to the broker becomes narrow
    Then open orders pile up
    And requests leave all the same
    When the way to the broker is wide again
    And the orders stop coming in
    Then every order is finished
    And no payment was asked for a second time

  @F7
  Scenario: No message finds its queue
    Given the system is running
    And orders keep coming in
    When the requests' way to their queue is cut
    Then messages have come back to Orders
    When the orders stop coming in
    Then every order is finished
    And no payment was asked for a second time

  @serial @B3
  Scenario: The broker is killed so early that it brings a queue back dead
    Given Orders asks again soon for what stays open
    And confirms are given up soon
    And the system is running
    And Ana has an account with 100.00
    When the broker is killed right after it made the queue of requests
    And Ana orders for 30.00
    Then Ana's order is finished
    And Orders is ready for everything
