@serial @containers
Feature: A broker of three nodes goes on without one of them
  The services are told the addresses of all three, and move to the next one by themselves.

  Background:
    Given the broker is a cluster of three nodes
    And the system is running
    And every queue is on all three nodes
    And orders keep coming in

  @B17
  Scenario: The node that leads the queues is killed
    When the node that leads the requests is killed while orders are under way
    Then the services have moved to the other nodes
    And 300 more orders end without that node
    And another node leads the requests
    And no customer is turned away
    When that node is back
    Then every queue is on all three nodes
    When the orders stop coming in
    Then every order is finished
    And no payment was asked for a second time
    And orders never stood still for more than 45 seconds

  @exhaustive @B17 @E5
  Scenario: The node that leads the queues is cut off from the network
    When the node that leads the requests is cut off while orders are under way
    Then the services have moved to the other nodes
    And 300 more orders end without that node
    And another node leads the requests
    And Orders has read back "payments.requests has 2 of 3 members online"
    And no customer is turned away
    When that node is back
    Then every queue is on all three nodes
    When the orders stop coming in
    Then every order is finished
    And no payment was asked for a second time
    And orders never stood still for more than 45 seconds

  @exhaustive @B17 @F13
  Scenario: The node that leads the queues is paused, and a service starts meanwhile
    When the node that leads the requests is paused while orders are under way
    Then the services have moved to the other nodes
    And 300 more orders end without that node
    When Payments is asked to stop while orders are under way
    And Payments starts again
    Then 300 more orders end without that node
    And another node leads the requests
    When that node is back
    Then every queue is on all three nodes
    When the orders stop coming in
    Then every order is finished
    And no payment was asked for a second time
    And orders never stood still for more than 45 seconds

  @exhaustive @B17
  Scenario: All three nodes are restarted, one after the other
    When each node in turn is restarted while orders are under way
    Then no customer is turned away
    When the orders stop coming in
    Then every order is finished
    And no payment was asked for a second time
    And orders never stood still for more than 45 seconds

  @exhaustive @B17
  Scenario: A queue that is on one node only is named, and mended under load
    When the queue of requests is left on one node only
    Then Orders has read back "payments.requests is on 1 of 3 nodes"
    When the queue of requests is put on the other nodes again
    Then every queue is on all three nodes
    And no customer is turned away
    When the orders stop coming in
    Then every order is finished
    And no payment was asked for a second time
