Feature: A network that fails delays payments, and loses and repeats none
  Whatever is sent twice, because nobody knows whether it arrived, acts once.

  @A9
  Scenario: The broker takes requests, and its confirms do not arrive
    Given the system is running
    And orders keep coming in
    When the way from Orders to the broker swallows all answers
    Then payments are made for orders that Orders does not know to be sent
    And no customer is turned away
    When the way from Orders to the broker is cut
    And every way is open again
    And the orders stop coming in
    Then every order is finished
    And some requests were delivered twice
    And no payment was asked for a second time

  @A6
  Scenario: Orders is killed while the broker has its requests, and it does not know
    Given the system is running
    And orders keep coming in
    When the way from Orders to the broker swallows all answers
    Then payments are made for orders that Orders does not know to be sent
    When Orders is killed
    And every way is open again
    And Orders starts again
    And the orders stop coming in
    Then every order is finished
    And some requests were delivered twice
    And no payment was asked for a second time

  @A9
  Scenario: What Orders has sent is lost on its way to the broker
    Given the system is running
    And orders keep coming in
    When the way from Orders to the broker swallows all requests
    Then 100 more orders are accepted all the same
    And open orders pile up
    When the way from Orders to the broker is cut
    And every way is open again
    And the orders stop coming in
    Then every order is finished
    And no payment was asked for a second time

  @A27
  Scenario: An order is paid before the customer hears that it was accepted
    Given a balancer in front of Orders and Payments
    And the system is running
    And Ana has an account with 100.00
    And Ben has an account with 1.00
    And Ben has ordered for 1.00
    When the way from Orders to the gateway swallows all answers
    And Ana orders for 30.00, and waits for the answer
    Then the books say that Ana's order is finished
    When every way is open again
    Then Ana is told that the order is open
    And Ana's order is finished

  @A17 @D4 @F1
  Scenario: Orders are stored, and the database's answer is lost
    Given the system is running
    And 5 customers have an account with 10.00 each
    When the answer to the next order is lost
    And every customer orders 4 times for 1.00, all at once
    Then an answer of Orders's database was lost indeed
    And 20 orders are finished and 0 are cancelled
    And no payment was asked for a second time

  @A17
  Scenario: The answer to a commit of Payments is lost
    Given the system is running
    And orders keep coming in
    When the answer to the next commit of Payments is lost
    Then an answer of Payments's database was lost indeed
    When the orders stop coming in
    Then every order is finished
    And some requests were delivered twice
    And nothing was parked
    And no payment was asked for a second time

  @A17
  Scenario: The answer to a commit of Orders is lost
    Given the system is running
    And orders keep coming in
    When the answer to the next commit of Orders is lost
    Then an answer of Orders's database was lost indeed
    When the orders stop coming in
    Then every order is finished
    And nothing was parked
    And no payment was asked for a second time

  @A17
  Scenario Outline: A commit of <service> does not arrive
    Given the system is running
    And orders keep coming in
    When the next commit of <service> is lost
    Then a commit of <service> was lost indeed
    When the orders stop coming in
    Then every order is finished
    And nothing was parked
    And no payment was asked for a second time

    Examples:
      | service  |
      | Orders   |
      | Payments |

  @B6
  Scenario: All connections to the broker are closed
    Given the system is running
    And orders keep coming in
    When an administrator closes all connections to the broker while orders are under way
    Then every service is ready
    And no customer is turned away
    When the orders stop coming in
    Then every order is finished
    And no payment was asked for a second time

  @E5 @E6 @D14
  Scenario Outline: The way from <service> to <far> <harm>
    Given a balancer in front of Orders and Payments
    And the system is running
    And orders keep coming in
    When the way from <service> to <far> <harm> while orders are under way
    Then <seen>
    When every way is open again
    Then every service is ready within 30 seconds
    When the orders stop coming in
    Then no order is open after 30 seconds
    And every order is finished
    And no payment was asked for a second time

    Examples:
      | service  | far          | harm                  | seen                                 |
      | Orders   | the broker   | swallows everything   | Orders is not ready for everything   |
      | Orders   | the broker   | swallows all requests | Orders is not ready for everything   |
      | Payments | the broker   | swallows all answers  | Payments is not ready for everything |
      | Payments | the broker   | resets everybody      | Payments is not ready for everything |
      | Orders   | its database | swallows everything   | customers are turned away            |
      | Orders   | its database | swallows all answers  | customers are turned away            |
      | Payments | its database | swallows all requests | Payments does not accept requests    |
      | Payments | its database | resets everybody      | Payments does not accept requests    |
      | Orders   | the gateway  | swallows everything   | customers are turned away            |
      | Orders   | the gateway  | swallows all answers  | customers are turned away            |
      | Orders   | the gateway  | is cut                | customers are turned away            |

  @E7
  Scenario: Every way is slow, passes on one byte at a time, and is reset one time in a hundred
    Given the system is running
    And orders keep coming in
    When every way is slow, passes on one byte at a time, and is reset one time in a hundred
    Then 20 more orders are accepted all the same
    And connections were reset on the way
    When every way is open again
    And the orders stop coming in
    Then every order is finished
    And no payment was asked for a second time

  @E13
  Scenario Outline: <service> runs out of file descriptors
    Given the system is running
    And Ana has an account with 100.00
    When <service> may open no more than 64 files
    And 100 clients connect to <service> and say nothing
    Then <service> serves nobody else
    When the silent clients leave
    Then <service> serves everybody again
    When Ana orders for 30.00
    Then Ana's order is finished

    Examples:
      | service     |
      | the gateway |
      | Orders      |
      | Payments    |

  @E3
  Scenario Outline: The database's clock was wrong when a request was stored
    Given the system is running
    And Ana has an account with 100.00
    When the way from Orders to the broker is cut
    And Ana orders for 30.00
    And Orders is killed
    And the unsent messages of Orders are due <when>
    And every way is open again
    And Orders starts again
    Then Ana's order is finished
    And Ana's balance is 70.00
    And no payment was asked for a second time

    Examples:
      | when          |
      | far-ahead     |
      | an-hour-ahead |
      | long-ago      |

  @E3
  Scenario Outline: The clock of <service> is wrong for a while
    Given the clock of <service> can be set
    And the system is running
    And orders keep coming in
    When the clock of <service> <jumps>
    Then 20 more orders are finished all the same
    When the clock of <service> is right again
    Then 20 more orders are finished all the same
    And <service> is ready for everything
    When the orders stop coming in
    Then every order is finished
    And no payment was asked for a second time

    Examples:
      | service  | jumps                |
      | Orders   | jumps an hour ahead  |
      | Orders   | falls an hour behind |
      | Payments | jumps an hour ahead  |
      | Payments | falls an hour behind |
      | Orders   | stands still         |
      | Payments | stands still         |
