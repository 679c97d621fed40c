Feature: Two of everything
  Any number of processes of a service share its database and its queue, and one covers for another.

  @A21 @D16
  Scenario: Four processes of each service start at once on fresh databases
    Given nothing of the system is running
    When 4 Orders processes start at once
    And 4 Payments processes start at once
    And the gateway starts
    Then all 4 Orders processes are ready
    And all 4 Payments processes are ready
    When Ana opens an account with 20.00
    And Ana orders 30 times for 1.00, all at once
    Then 20 of Ana's orders are finished and 10 are cancelled
    And no payment was asked for a second time

  @A5 @A13 @A21
  Scenario Outline: One of two <service> processes is killed, and the other covers
    Given a balancer in front of Orders and Payments
    And the system is running
    And the second Orders is running
    And the second Payments is running
    And orders keep coming in
    When <service> is killed while orders are under way
    And the orders stop coming in
    Then every order is finished
    And no payment was asked for a second time

    Examples:
      | service  |
      | Orders   |
      | Payments |

  @A21
  Scenario: What one Orders has in its hands, the other leaves alone
    Given a balancer in front of Orders and Payments
    And the system is running
    And the second Orders is running
    And Ana has an account with 100.00
    When the way from Orders to the broker swallows all answers
    And Ana orders 40 times for 1.00, all at once
    Then a little later no request was delivered twice, though some are not known to be sent
    When every way is open again
    Then 40 of Ana's orders are finished and 0 are cancelled
    And Ana's balance is 60.00

  @F8 @A5
  Scenario: Orders is frozen for longer than its leases, and the other one sends what it held
    Given a balancer in front of Orders and Payments
    And the system is running
    And the second Orders is running
    And orders keep coming in
    When the way from Orders to the broker swallows all answers
    Then payments are made for orders that Orders does not know to be sent
    When Orders is frozen
    And the orders stop coming in
    Then every order is finished
    And some requests were delivered twice
    When every way is open again
    And Orders is thawed
    Then every order is finished
    And no payment was asked for a second time

  @F8
  Scenario: Payments is frozen within a transaction, and the other one pays what it holds
    Given Payments will freeze at one of the times it comes to "consumer.handled"
    And the system is running
    And orders keep coming in
    Then Payments is frozen with requests in its hands, alone
    When the second Payments starts
    And the orders stop coming in
    Then every order is finished
    And the broker has delivered requests again
    When Payments is thawed
    Then no request is left in the queue
    And every order is finished
    And no payment was asked for a second time

  @F8 @A15
  Scenario: Payments is frozen between commit and acknowledgement, and the other one answers what it holds
    Given Payments will freeze at one of the times it comes to "consumer.committed"
    And the system is running
    And orders keep coming in
    Then Payments is frozen with requests in its hands, alone
    When the second Payments starts
    And the orders stop coming in
    Then every order is finished
    And the broker has delivered requests again
    And some requests were delivered twice
    When Payments is thawed
    Then no request is left in the queue
    And every order is finished
    And no payment was asked for a second time

  @F15 @D7 @D9
  Scenario: Two Payments processes get the same requests in opposite order
    Given each Payments process takes 200 messages at a time
    And the system is running
    And 10 customers have an account with 15.00 each
    And Payments is down
    And every customer has ordered 20 times for 1.00
    When each waiting request is put back twice, the second time in the opposite order
    And somebody locks all accounts
    And Payments starts
    And the second Payments starts
    Then 400 requests are in the hands of Payments
    When the accounts are free again
    Then 150 orders are finished and 50 are cancelled
    And no transaction came into a deadlock

  @F5 @A21
  Scenario: Two Payments processes take a request and its copy in at once
    Given each Payments process takes 1 messages at a time
    And the system is running
    And Ana has an account with 100.00
    And Payments is down
    And Ana has ordered for 30.00
    And somebody else holds Ana's account locked
    When each waiting request gets a copy behind it, under a new id
    And Payments starts
    And the second Payments starts
    Then no request is left to be taken
    When the lock is let go
    Then Ana's order is finished
    And Ana's balance is 70.00
    And no payment was asked for a second time

  @F15 @D7 @A22
  Scenario: Two Payments processes take the same requests in, one of which is held up in the middle
    Given each Payments process takes 100 messages at a time
    And the system is running
    And 10 customers have an account with 15.00 each
    And Payments is down
    And every customer has ordered 10 times for 1.00
    When each waiting request is put back twice, the second time in the opposite order
    And somebody holds the place of the request in the middle
    And Payments starts
    And the second Payments starts
    Then two transactions of Payments wait for somebody
    And whoever holds it can take all places behind it
    When the place is free again
    Then 100 orders are finished and 0 are cancelled
    And 100 requests were answered a second time
    And no transaction came into a deadlock

  @E4
  Scenario: All read the version to come, and one of each sends it
    Given a balancer in front of Orders and Payments
    And Orders reads messages of the version to come
    And Payments reads messages of the version to come
    And the second Orders sends messages of the version to come
    And the second Payments sends messages of the version to come
    And the system is running
    And the second Orders is running
    And the second Payments is running
    And orders keep coming in
    When the orders stop coming in
    Then every order is finished
    And messages of both versions were sent by Orders
    And messages of both versions were sent by Payments
    And both processes of Payments have taken messages in
    And both processes of Orders have taken messages in
    And nothing was parked
    And no payment was asked for a second time

  @E4 @F14
  Scenario: The version to come is sent while one Payments cannot read it yet
    Given each Payments process takes 1 messages at a time
    And a balancer in front of Orders and Payments
    And Orders sends messages of the version to come
    And the second Payments reads messages of the version to come
    And the system is running
    And the second Payments is running
    And 3 customers have an account with 100.00 each
    When every customer orders 10 times for 3.00, all at once
    Then Payments has set some of 30 requests aside as unknown_version, and decided the others
    When Payments is asked to stop while orders are under way
    And Payments reads messages of the version to come
    And Payments starts again
    And the operator replays all of them
    Then every order is finished
    And the operator sees no parked message
    And no payment was asked for a second time

  @A23
  Scenario: One customer orders more than she can pay for, and two Payments processes decide
    Given each Payments process takes 1 messages at a time
    And the system is running
    And the second Payments is running
    And Ana has an account with 10.00
    When Ana orders 60 times for 1.00, all at once
    Then 10 of Ana's orders are finished and 50 are cancelled
    And Ana's balance is 0.00
    And both processes of Payments have taken messages in
    And no transaction came into a deadlock
