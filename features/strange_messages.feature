Feature: A message that is strange but clear is acted on
  Fields that a newer sender adds are not for the older reader to refuse.

  @C6
  Scenario: Requests and results come with a field that nobody knows
    Given the system is running
    And Ana has an account with 100.00
    And Payments is down
    And Ana has ordered for 30.00
    When each waiting request gets a field that nobody knows
    And Orders is killed
    And Payments starts again
    Then the results wait in the queue
    When each waiting result gets a field that nobody knows
    And Orders starts again
    Then Ana's order is finished
    And Ana's balance is 70.00
