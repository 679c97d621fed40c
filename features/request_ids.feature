Feature: Every answer names its request
  So that a customer's complaint can be found in the logs.

  Background:
    Given the system is running

  Scenario: An id that the client gives is answered
    When a client sends GET "/v1/orders/?user_id=101" with the header "X-Request-Id: complaint-4711"
    Then the answer is 200
    And its header "x-request-id" is "complaint-4711"

  Scenario: A request without an id gets one
    When a client sends GET "/v1/orders/?user_id=101"
    Then the answer is 200
    And its request id is a new one

  Scenario Outline: An error tells the id in its body as well
    When a client sends <method> "<path>"
    Then the answer is <status>
    And its request id is a new one
    And its request id is the one in the body

    Examples:
      | method | path             | status |
      | GET    | /v1/accounts/101 | 404    |
      | GET    | /nowhere         | 404    |
      | PUT    | /v1/orders/      | 405    |
      | GET    | /v1/orders/      | 422    |
