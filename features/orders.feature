@sample
Feature: An order is accepted at once and paid after
  The examples of the API's specification, letter for letter.

  Background:
    Given the system is running

  Scenario Outline: An order that can be paid is charged and finished
    Given a client has sent POST "/v1/accounts"
      """
      {"user_id":101}
      """
    And a client has sent POST "/v1/accounts/deposit"
      """
      {"user_id":101,"amount":"500.00"}
      """
    When a client sends POST "<orders>"
      """
      {"user_id":101,"amount":"150.00","description":"хз"}
      """
    Then the answer is 201
      """
      {"id":1,"user_id":101,"amount":"150.00","description":"хз","status":"NEW"}
      """
    And in the end GET "<order>" is answered with 200
      """
      {"id":1,"user_id":101,"amount":"150.00","description":"хз","status":"FINISHED"}
      """
    And in the end GET "/v1/accounts/101" is answered with 200
      """
      {"id":1,"user_id":101,"balance":"350.00"}
      """

    Examples: with and without the slash at the end
      | orders      | order                    |
      | /v1/orders/ | /v1/orders/1?user_id=101 |
      | /v1/orders  | /v1/orders/1/?user_id=101 |

  Scenario Outline: A list has all orders of a customer, the newest first
    Given a client has sent POST "/v1/accounts"
      """
      {"user_id":101}
      """
    And a client has sent POST "/v1/accounts/deposit"
      """
      {"user_id":101,"amount":"160.00"}
      """
    And a client has sent POST "/v1/orders/"
      """
      {"user_id":101,"amount":"150.00","description":"хз2"}
      """
    And in the end GET "/v1/orders/1?user_id=101" is answered with 200
      """
      {"id":1,"user_id":101,"amount":"150.00","description":"хз2","status":"FINISHED"}
      """
    When a client sends POST "/v1/orders/"
      """
      {"user_id":101,"amount":"25.50","description":"хз1"}
      """
    Then in the end GET "<list>" is answered with 200
      """
      [{"id":2,"user_id":101,"amount":"25.50","description":"хз1","status":"CANCELLED"},{"id":1,"user_id":101,"amount":"150.00","description":"хз2","status":"FINISHED"}]
      """

    Examples: with and without the slash at the end
      | list                    |
      | /v1/orders/?user_id=101 |
      | /v1/orders?user_id=101  |

  Scenario: The list of a customer without orders is empty
    When a client sends GET "/v1/orders/?user_id=101"
    Then the answer is 200
      """
      []
      """

  Scenario Outline: A description is any text, and stays as it is
    When a client sends POST "/v1/orders/"
      """
      {"user_id":101,"amount":"1.00","description":"<text>"}
      """
    Then the answer is 201
      """
      {"id":1,"user_id":101,"amount":"1.00","description":"<text>","status":"NEW"}
      """
    And in the end GET "/v1/orders/1?user_id=101" is answered with 200
      """
      {"id":1,"user_id":101,"amount":"1.00","description":"<text>","status":"CANCELLED"}
      """

    Examples:
      | text                     |
      |                          |
      | 日本語 العربية हिन्दी 👩‍👩‍👧‍👦     |
      | '; drop table orders; -- |
      | <b>bold</b> & 100 %      |

  Scenario: Nobody sees another customer's order
    Given a client has sent POST "/v1/orders/"
      """
      {"user_id":101,"amount":"150.00","description":"хз"}
      """
    When a client sends GET "/v1/orders/1?user_id=102"
    Then the answer is 404
      """
      {"detail":"Order not found","code":"order_not_found","request_id":"…"}
      """
    When a client sends GET "/v1/orders/2?user_id=101"
    Then the answer is 404
      """
      {"detail":"Order not found","code":"order_not_found","request_id":"…"}
      """
