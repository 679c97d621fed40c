@sample
Feature: A decision stands
  What was declined once is never charged later, because money came in since or an account was opened.

  Background:
    Given the system is running

  @A26
  Scenario Outline: A declined order stays declined when money comes in
    Given Ana has an account with 10.00
    When Ana orders for 30.00
    Then Ana's order is cancelled
    When Ana deposits 100.00
    And the request for Ana's order is delivered once more, under <identity>
    Then Ana's order is still cancelled
    And Ana's balance is 110.00

    Examples:
      | identity   |
      | its own id |
      | a new id   |

  @A28
  Scenario: An order without an account is cancelled, and an account opened later changes nothing
    Given Ben has no account
    When Ben orders for 30.00
    Then Ben's order is cancelled
    When Ben opens an account with 100.00
    And the request for Ben's order is delivered once more, under a new id
    Then Ben's order is still cancelled
    And Ben's balance is 100.00

  Scenario: A declined order does not stand in the way of the next one
    Given Ana has an account with 10.00
    When Ana orders for 30.00
    Then Ana's order is cancelled
    When Ana deposits 100.00
    And Ana orders for 30.00
    Then Ana's order is finished
    And Ana's balance is 80.00

  @A20
  Scenario Outline: A late result says the opposite
    Given Ana has an account with <money>
    When Ana orders for 30.00
    Then Ana's order is <state>
    When the opposite result for Ana's order arrives
    And Ben orders for 30.00
    # His result came behind the opposite one.
    Then Ben's order is cancelled
    And Ana's order is still <state>
    And Ana's balance is <left>
    And Orders has parked it as contradiction
    And Orders shows to its operators 1 message parked as contradiction
    And Orders shows to its operators 1 contradiction

    Examples:
      | money  | state     | left  |
      | 100.00 | finished  | 70.00 |
      | 10.00  | cancelled | 10.00 |

  @A25
  Scenario Outline: Payments has forgotten a request, and gets it again
    Given Ana has an account with <money>
    When Ana orders for 30.00
    Then Ana's order is <state>
    When Ana deposits 100.00
    And Payments forgets the request for Ana's order
    And the request for Ana's order is delivered once more, under its own id
    Then Ana's order is still <state>
    And Ana's balance is <left>

    Examples:
      | money  | state     | left   |
      | 100.00 | finished  | 170.00 |
      | 10.00  | cancelled | 110.00 |
