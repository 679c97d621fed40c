Feature: Databases that misbehave lose and repeat nothing
  What passes by itself is waited out by the services, and told to customers who cannot wait.

  @D3
  Scenario Outline: The connections of <service>'s <part> are ended again and again
    Given the system is running
    And orders keep coming in
    When the database connections of <service>'s <part> are ended again and again while orders are under way
    And the orders stop coming in
    Then every order is finished
    And no payment was asked for a second time

    Examples:
      | service  | part     |
      | Orders   | api      |
      | Orders   | relay    |
      | Orders   | consumer |
      | Payments | relay    |
      | Payments | consumer |

  @D4
  Scenario: A deposit is booked, and the database's answer is lost
    Given the system is running
    And Ana has an account with 10.00
    When the answer to Ana's next deposit is lost
    And Ana deposits 5.00, and is told that nobody knows
    Then an answer of Payments's database was lost indeed
    And Ana's balance is 15.00

  @D6
  Scenario: All connections of the API are used up
    Given the system is running
    And Ana has an account with 10.00
    And Ben has an account with 100.00
    And somebody else holds Ana's account locked
    When a crowd keeps depositing 1.00 to Ana's account
    Then all connections of the API of Payments wait for the account
    And Ben is told to pay in later
    When Ben orders for 30.00
    Then Ben's order is finished
    When the crowd goes away
    And the lock is let go
    Then Ben can pay in 1.00 again

  @D8 @D7
  Scenario: Transactions that came into each other's way are tried again
    Given the databases isolate transactions as if one came after the other
    And the system is running
    And Ana has an account with 40.00
    And Payments is far away from its database
    When Ana orders 40 times for 1.00 while she makes 40 deposits of 1.00
    Then 40 of Ana's orders are finished and 0 are cancelled
    And Ana's balance is 40.00
    And transactions came into each other's way
    And no transaction came into a deadlock

  @D7
  Scenario: A payment comes into a deadlock
    Given the system is running
    And Ana has an account with 100.00
    When Ana orders for 30.00, and the payment comes into a deadlock
    Then a transaction of Payments came into a deadlock indeed
    And Ana's order is finished
    And Ana's balance is 70.00
    And nothing was parked

  @F15 @D7
  Scenario: Results come in the opposite order of the orders, one of which somebody has locked
    Given the system is running
    And Ana has an account with 100.00
    And Payments is down
    And Ana has ordered 100 times for 1.00, all at once
    And the requests wait in the queue
    And Orders is down
    When Payments starts
    Then the results wait in the queue
    When the waiting results are put back in the opposite order of their orders
    And somebody locks the order in the middle
    And Orders starts
    Then a transaction of Orders waits for it
    And whoever has locked it can lock all orders behind it
    When the order is free again
    Then 100 orders are finished and 0 are cancelled
    And no transaction came into a deadlock

  @D10 @D14
  Scenario: A client is gone in the middle of a transaction, and its locks are freed
    Given the system is running
    And orders keep coming in
    And Payments is far away from its database
    When the way from Payments to its database swallows everything in the middle of a transaction
    Then the database of Payments gives that transaction up
    When every way is open again
    And the orders stop coming in
    Then every order is finished
    And no payment was asked for a second time

  @D12
  Scenario: The database of Payments takes no more connections
    Given the services log in as ordinary users
    And the system is running
    And orders keep coming in
    When the database of Payments lets nobody in any more
    Then Payments does not accept requests
    And open orders pile up
    And no customer is turned away
    When the database of Payments lets everybody in again
    And the orders stop coming in
    Then every order is finished
    And nothing was parked
    And no payment was asked for a second time

  @D12
  Scenario: The database of Orders takes no more connections
    Given the services log in as ordinary users
    And the system is running
    And orders keep coming in
    When the database of Orders lets nobody in any more
    Then customers are turned away
    And Orders does not accept requests
    When the database of Orders lets everybody in again
    And the orders stop coming in
    Then every order is finished
    And no payment was asked for a second time

  @F12
  Scenario: The password of a database is changed
    Given the services log in as ordinary users
    And the system is running
    And Ana has an account with 100.00
    When the password of Payments's database is changed
    And Ana orders for 30.00
    Then Payments is not ready for everything within 10 seconds
    And Payments says "password authentication failed"
    And Ana's order is still open
    When the password of Payments's database is as before
    Then Ana's order is finished
    And Payments is ready for everything
    And nothing was parked

  @D13
  Scenario: The databases can only be read for two minutes
    Given the system is running
    And Ana has an account with 100.00
    And Ana has ordered for 30.00
    And orders keep coming in
    When both databases can only be read
    Then Ana can still read her order and her balance, and is told to pay in later
    And customers are turned away
    When the orders stop coming in
    And two minutes have gone by since the databases could be written
    Then the requests were not delivered again and again
    And Ana can still read her order and her balance, and is told to pay in later
    When both databases can be written again
    Then every order is finished
    And nothing was parked
    And no payment was asked for a second time

  @D19
  Scenario: Somebody reads the databases as they were, for as long as orders come in
    Given the system is running
    And somebody holds a snapshot of Payments's database
    And orders keep coming in
    When Payments is killed while orders are under way
    Then open orders pile up
    When Payments starts again
    Then the queue of requests is empty again, while orders keep coming in
    When the orders stop coming in
    Then every order is finished
    And the snapshot shows none of their payments
    And no payment was asked for a second time

  @D17
  Scenario: Columns are widened under load
    Given the system is running
    And orders keep coming in
    When columns are widened while orders are under way
    Then 50 more orders are accepted all the same
    And no customer is turned away
    And Orders had plans that were out of date
    And Payments had plans that were out of date
    When the orders stop coming in
    Then every order is finished
    And nothing was parked
    And no payment was asked for a second time

  @D16
  Scenario: The databases were migrated by a version to come
    Given the system is running
    And Ana has an account with 100.00
    When Orders is killed
    And Payments is killed
    And a version to come has migrated both databases
    And Orders starts again
    And Payments starts again
    And Ana orders for 30.00
    Then Ana's order is finished
    And Ana's balance is 70.00
