@sample
Feature: A message that gets lost is made up for
  A broker can confirm a message and lose it all the same, so an order is done only on its result.

  @A12
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
    And no message went out under two ids

  @A12
  Scenario: All queues are purged, with orders under way
    Given Orders asks again soon for what stays open
    And the system is running
    And orders keep coming in
    When Payments is killed while orders are under way
    Then open orders pile up
    When all queues are purged
    And Payments starts again
    And the orders stop coming in
    Then every order is finished
    And payments were asked for a second time
    And no message went out under two ids

  @A12
  Scenario: A thief takes every request for 45 seconds
    Given Orders asks again soon for what stays open
    And the system is running
    And 3 customers have an account with 10.00 each
    When a thief takes every request for 45 seconds
    And every customer orders 4 times for 3.00, all at once
    Then the thief has taken each request again and again
    And 9 orders are finished and 3 are cancelled
    And payments were asked for a second time
    And no message went out under two ids

  @B10
  Scenario: The oldest requests drop out of a queue that is too short
    Given Orders asks again soon for what stays open
    And Orders may ask the broker what it has made of its queues
    And the system is running
    And 3 customers have an account with 10.00 each
    And Payments is down
    When an administrator lets the oldest requests drop when more than 5 wait
    And every customer orders 4 times for 3.00, all at once
    Then all requests are sent, and no more than 5 are left
    And Orders says "it loses messages"
    When the requests may wait as long as they like again
    And Payments starts again
    Then 9 orders are finished and 3 are cancelled
    And payments were asked for a second time

  @serial @B16
  Scenario: The broker loses all that it had
    Given Orders asks again soon for what stays open
    And the system is running
    And orders keep coming in
    When Payments is killed while orders are under way
    Then open orders pile up
    When the broker loses all that it had, with requests in it
    And Payments starts again
    Then every service is ready
    When the orders stop coming in
    Then every order is finished
    And payments were asked for a second time

  @F4
  Scenario: Payments is away for longer than Orders has patience
    Given Orders asks again soon for what stays open
    And Orders asks again for at most 20 orders at a time
    And the system is running
    And orders keep coming in
    When Payments is killed while orders are under way
    Then open orders pile up
    And Orders asks again three times, for no more than 20 orders at a time
    When Payments starts again
    Then the queue of requests is empty again, while orders keep coming in
    When the orders stop coming in
    Then every order is finished
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
