Feature: The system documents itself
  One page and one document for the whole system, at the gateway.

  Background:
    Given the system is running

  Scenario: The page needs no other site
    When a client sends GET "/docs"
    Then the answer is 200
    And it is a page whose every file comes from the system itself

  Scenario: One document describes both services
    When a client sends GET "/openapi.json"
    Then the answer is 200
    And it describes these operations, and no others
      | method | path                   |
      | POST   | /v1/accounts           |
      | POST   | /v1/accounts/deposit   |
      | GET    | /v1/accounts/{user_id} |
      | GET    | /v1/orders/            |
      | POST   | /v1/orders/            |
      | GET    | /v1/orders/{order_id}  |
