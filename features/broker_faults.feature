Feature: A broker that is there and does not do its work
  It is noticed, said, and over as soon as the cause is; nobody restarts anything.

  @serial @B5
  Scenario Outline: The broker runs out of <what>
    Given the system is running
    And orders keep coming in
    When the broker runs out of <what>
    Then Orders is not ready for everything within 10 seconds
    And the broker blocks who publishes
    And Orders shows to its operators that it is blocked
    And Orders says "the broker blocks publishers"
    But Orders accepts requests all the same
    And open orders pile up
    And no customer is turned away
    When the broker has enough again
    Then Orders is ready for everything within 10 seconds
    When the orders stop coming in
    Then every order is finished
    And no payment was asked for a second time

    Examples:
      | what   |
      | memory |
      | disk   |

  @serial @B5
  Scenario: The broker runs out of memory, and what it holds is worked off all the same
    Given the system is running
    And Ana has an account with 100.00
    And Payments is down
    And Ana has ordered 20 times for 1.00, all at once
    And the requests wait in the queue
    When the broker runs out of memory
    And Payments starts
    Then no request is left in the queue
    And Ana's balance is 80.00
    And Payments says "the broker blocks publishers"
    And the broker blocks who publishes
    And each of Ana's orders is still open
    When the broker has enough again
    Then 20 of Ana's orders are finished and 0 are cancelled
    And no payment was asked for a second time

  @B7
  Scenario: The broker closes the channel of whoever publishes
    Given the system is running
    And Ana has an account with 100.00
    When the exchange is deleted
    And Ana orders for 30.00
    Then the exchange "paidonce" is there again within 10 seconds
    And Ana's order is finished
    And Orders is ready for everything
    And no payment was asked for a second time

  @B8
  Scenario: A queue is deleted while nobody has anything in it
    Given the system is running
    And Ana has an account with 100.00
    When the queue of requests is deleted
    And Ana orders for 30.00
    Then the queue "payments.requests" is there again within 10 seconds
    And Ana's order is finished
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

  Scenario: The queue of requests is full
    Given the system is running
    And 3 customers have an account with 10.00 each
    And Payments is down
    When an administrator leaves room for 2 requests
    And every customer orders 1 times for 3.00, all at once
    And every customer orders 1 times for 3.00, all at once
    And every customer orders 1 times for 3.00, all at once
    And every customer orders 1 times for 3.00, all at once
    Then each request was tried, and there is room for no more
    When Payments starts again
    Then 9 orders are finished and 3 are cancelled
    And no payment was asked for a second time
    And messages have come back to Orders

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
    Then Orders and Payments are not ready for everything within 10 seconds
    And Orders says "ACCESS_REFUSED"
    And Payments says "ACCESS_REFUSED"
    And Ana's order is still open
    When the services may do everything at the broker again
    Then Ana's order is finished
    And Orders is ready for everything
    And Payments is ready for everything

  @B15
  Scenario: A stranger has a queue for itself
    Given a stranger has the queue of requests for itself alone
    And Orders starts
    And Payments starts
    And the gateway starts
    Then Payments accepts requests in the end
    And Orders accepts requests in the end
    And the gateway is alive
    And Orders is not ready for everything within 10 seconds
    And Orders says "RESOURCE_LOCKED"
    And Payments says "RESOURCE_LOCKED"
    When Ana opens an account with 100.00
    And Ana orders for 30.00
    Then Ana's order is still open
    When the stranger goes away
    Then Ana's order is finished
    And Orders is ready for everything
    And Payments is ready for everything

  @serial @B9
  Scenario: The broker wants its messages acknowledged within seconds, and the database is away
    Given the services log in as ordinary users
    And the broker waits no longer than 3 seconds for an acknowledgement
    And the system is running
    And Ana has an account with 100.00
    When the database of Payments lets nobody in any more
    And Ana orders for 30.00
    Then the broker has lost its patience with a consumer
    And Ana's order is still open
    When the database of Payments lets everybody in again
    Then Ana's order is finished
    And Ana's balance is 70.00
    And Payments is ready for everything
    When Ana orders for 10.00
    Then Ana's order is finished
    And no request is left in the queue
    And nothing was parked

  @F12
  Scenario: The password is changed
    Given the services have a login of their own at the broker
    And the system is running
    And Ana has an account with 100.00
    When the services' password at the broker is changed
    And Ana orders for 30.00
    Then Orders and Payments are not ready for everything within 10 seconds
    And Orders says "ACCESS_REFUSED"
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
    And the operator sees no parked message

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

  @F7 @A10
  Scenario: No message finds its queue
    Given the system is running
    And orders keep coming in
    When the requests' way to their queue is cut
    Then messages have come back to Orders
    When the orders stop coming in
    Then every order is finished
    And no payment was asked for a second time

  @A10
  Scenario: A request finds no queue
    Given the system is running
    And Ana has an account with 100.00
    When the requests' way to their queue is cut
    And Ana orders for 30.00
    Then Ana's order is finished
    And Ana's balance is 70.00
    And no payment was asked for a second time
    And messages have come back to Orders

  @A11 @F7
  Scenario: Messages that find no queue leave among others that do
    Given the system is running
    And Ana has an account with 102.00
    When the way from Orders to the broker is cut
    And Ana orders 100 times for 1.00, all at once
    And Orders is killed
    And a message that has no queue comes behind each request in its outbox
    And the unsent messages of Orders are due long-ago
    And every way is open again
    And Orders starts
    Then 100 of Ana's orders are finished and 0 are cancelled
    And the messages that have no queue were tried, and are kept unsent
    When Ana orders for 2.00
    Then Ana's order is finished
    And none of the messages that have no queue was tried more often than its pauses allow
    When there is a queue for them
    Then they are sent as well
    And Orders is ready for everything

  @serial @B3
  Scenario: The broker is killed so early that it brings a queue back dead
    Given Orders asks again soon for what stays open
    And confirms are given up soon
    And the system is running
    And Ana has an account with 100.00
    When the broker is killed right after it made the queue of requests
    And Ana orders for 30.00
    Then Orders has deleted the dead queue of requests
    And Ana's order is finished
    And Orders is ready for everything
