@sample
Feature: Money is exact
  No amount is rounded, none is infinite, and nothing is paid by a number that was given out twice.

  Background:
    Given the system is running
    And a client has sent POST "/v1/accounts"
      """
      {"user_id":101}
      """

  @D20
  Scenario Outline: What a database would round or take for a number is refused
    When a client sends POST "/v1/accounts/deposit"
      """
      {"user_id":101,"amount":<amount>}
      """
    Then the answer is 422
    When a client sends GET "/v1/accounts/101"
    Then the answer is 200
      """
      {"id":1,"user_id":101,"balance":"0.00"}
      """

    Examples:
      | amount     |
      | "0.005"    |
      | 0.005      |
      | "NaN"      |
      | "Infinity" |
      | "1e400"    |

  @D20
  Scenario: The databases hold the last line
    Then no database takes what is no amount

  @D21
  Scenario: A balance has a limit
    Given a client has sent POST "/v1/accounts/deposit"
      """
      {"user_id":101,"amount":"9999999999999999.99"}
      """
    When a client sends POST "/v1/accounts/deposit"
      """
      {"user_id":101,"amount":"0.01"}
      """
    Then the answer is 409
      """
      {"detail":"The balance would exceed 9999999999999999.99","code":"balance_limit","request_id":"…"}
      """
    When a client sends GET "/v1/accounts/101"
    Then the answer is 200
      """
      {"id":1,"user_id":101,"balance":"9999999999999999.99"}
      """

  @D23
  Scenario: A new order with the number of an old one is paid for itself
    Given a client has sent POST "/v1/accounts/deposit"
      """
      {"user_id":101,"amount":"100.00"}
      """
    And a client has sent POST "/v1/orders/"
      """
      {"user_id":101,"amount":"30.00","description":"first"}
      """
    And in the end GET "/v1/orders/1?user_id=101" is answered with 200
      """
      {"id":1,"user_id":101,"amount":"30.00","description":"first","status":"FINISHED"}
      """
    When Orders forgets its first order, and its number is given out again
    And a client sends POST "/v1/orders/"
      """
      {"user_id":101,"amount":"20.00","description":"second"}
      """
    Then the answer is 201
      """
      {"id":1,"user_id":101,"amount":"20.00","description":"second","status":"NEW"}
      """
    And in the end GET "/v1/orders/1?user_id=101" is answered with 200
      """
      {"id":1,"user_id":101,"amount":"20.00","description":"second","status":"FINISHED"}
      """
    When a client sends GET "/v1/accounts/101"
    Then the answer is 200
      """
      {"id":1,"user_id":101,"balance":"50.00"}
      """
    And the books of the two services differ
    When the forgotten order is written back under another number
