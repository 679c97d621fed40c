@sample
Feature: An order is paid once, however often its messages are delivered
  Messages are delivered at least once; what they do, they do once.

  @A15 @A26
  Scenario Outline: Every message is delivered twice
    Given the system is running
    And every message is delivered a second time, under <identity>
    And 4 customers have an account with 10.00 each
    When every customer orders 15 times for 1.00, all at once
    Then 40 orders are finished and 20 are cancelled
    And every message was delivered twice indeed

    Examples:
      | identity   |
      | its own id |
      | a new id   |

  @A26
  Scenario Outline: A payment is asked for again after it was made
    Given the system is running
    And Ana has an account with 100.00
    When Ana orders for 30.00
    Then Ana's order is finished
    When the request for Ana's order is delivered once more, under <identity>
    Then Ana's order is still finished
    And Ana's balance is 70.00

    Examples:
      | identity   |
      | its own id |
      | a new id   |

  @A15
  Scenario Outline: Every message is delivered twice while <service> dies
    Given the system is running
    And every message is delivered a second time, under its own id
    And orders keep coming in
    When <service> is killed while orders are under way
    And <service> starts again
    And the orders stop coming in
    Then every order is finished
    And every message was delivered twice indeed

    Examples:
      | service  |
      | Payments |
      | Orders   |

  @F5
  Scenario Outline: A request and its copy are taken in at once
    Given the system is running
    And Ana has an account with 100.00
    And Payments is down
    And Ana has ordered for 30.00
    When each waiting request gets a copy behind it, under <identity>
    And Payments starts again
    Then Ana's order is finished
    And Ana's balance is 70.00
    And Ana's order was answered 2 times

    Examples:
      | identity   |
      | its own id |
      | a new id   |
