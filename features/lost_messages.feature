Feature: A message that gets lost is made up for
  A broker can confirm a message and lose it all the same, so an order is done only on its result.

  @A12 @B3
  Scenario: All requests are lost from the queue
    Given Orders asks again soon for what stays open
    And the system is running
    And 3 customers have an account with 10.00 each
    And Payments is down
    And every customer has ordered 4 times for 3.00
    When the waiting requests are purged
    Then every order is still open
    When Payments starts again
    Then 9 orders are finished and 3 are cancelled
    And payments were asked for a second time

  @A18
  Scenario: The results are stolen after the money was taken
    Given Orders asks again soon for what stays open
    And the system is running
    And Ana has an account with 100.00
    And Payments is down
    And Ana has ordered for 30.00
    And the requests wait in the queue
    When Orders is killed
    And Payments starts again
    And the waiting results are stolen
    Then Ana's balance is 70.00
    When Orders starts again
    Then Ana's order is finished
    And Ana's balance is 70.00
    And payments were asked for a second time
