Feature: The gateway between services that fail and clients that dawdle
  Whoever asks hears within seconds how it stands; nobody is kept waiting for another, and nothing is stored twice.

  @E8
  Scenario Outline: The way from the gateway to Orders <harm>
    Given a balancer in front of Orders and Payments
    And the system is running
    And Ana has an account with 100.00
    And Ana has ordered for 1.00
    When the way from Orders to the gateway <harm>
    Then whoever asks for Ana's orders is answered <status> "<code>" within 10 seconds
    And whoever orders for Ana is answered <status> "<code>" within 10 seconds
    And Ana's account can be read all the same
    When every way is open again
    And Ana orders for 30.00
    Then Ana's order is finished

    Examples:
      | harm                | status | code                 |
      | is cut              | 502    | upstream_unreachable |
      | swallows everything | 504    | upstream_timeout     |

  @E8
  Scenario: The gateway knows Orders by a name that nobody has
    Given the system is running
    And Ana has an account with 100.00
    When the gateway is killed
    And the gateway is told that Orders is at "no-such-host.invalid"
    And the gateway starts
    Then the gateway is alive
    And whoever asks for Ana's orders is answered 502 "upstream_unreachable" within 10 seconds
    And whoever orders for Ana is answered 502 "upstream_unreachable" within 10 seconds
    And Ana's account can be read all the same
    When the gateway is killed
    And the gateway starts again
    And Ana orders for 30.00
    Then Ana's order is finished
    And Ana's balance is 70.00

  @E10
  Scenario: The connections that the gateway keeps to Orders are closed before each order
    Given a balancer in front of Orders and Payments
    And the system is running
    And Ana has an account with 100.00
    When Ana orders 20 times for 1.00, and before each all connections of the gateway to Orders are closed
    Then 20 of Ana's orders are finished and 0 are cancelled
    And Ana's balance is 80.00

  @E9 @E10
  Scenario: The connection to Orders breaks behind an order, and behind a question
    Given a balancer in front of Orders and Payments
    And the system is running
    And Ana has an account with 100.00
    When the answer to the next order is lost between Orders and the gateway
    Then whoever orders for Ana is answered 502 "upstream_unreachable" within 10 seconds
    When the answer to the next question is lost between Orders and the gateway
    Then Ana's orders can be read all the same, and there is one
    And 2 answers were lost between Orders and the gateway
    And 1 of Ana's orders are finished and 0 are cancelled
    And Ana's balance is 99.00

  @E11
  Scenario: The connection to Orders breaks within an answer
    Given a balancer in front of Orders and Payments
    And the system is running
    And Ana has an account with 100.00
    And Ana has ordered 50 times for 1.00, all at once
    When the way from Orders to the gateway is narrow, and is cut while Ana's orders are on it
    Then what came is not taken for all of Ana's orders
    When every way is open again
    Then 50 of Ana's orders are finished and 0 are cancelled

  @E12
  Scenario: A thousand clients send nothing, and two hundred one byte at a time
    Given the system is running
    And Ana has an account with 100.00
    When 1000 clients connect to the gateway and say nothing
    And 100 clients send the gateway the head of a request, one byte at a time
    And 100 clients send it an order, one byte at a time
    And Ana orders for 30.00
    Then Ana's order is finished
    And all those clients are cut off within 30 seconds
    And Ana's balance is 70.00
