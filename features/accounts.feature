@sample
Feature: An account holds a customer's money
  The examples of the API's specification, letter for letter.

  Background:
    Given the system is running

  Scenario Outline: A new account is empty
    When a client sends POST "<path>"
      """
      {"user_id":101}
      """
    Then the answer is 201
      """
      {"id":1,"user_id":101,"balance":"0.00"}
      """

    Examples: with and without the slash at the end
      | path          |
      | /v1/accounts  |
      | /v1/accounts/ |

  Scenario Outline: A deposit is in the account at once, and is read back
    Given a client has sent POST "/v1/accounts"
      """
      {"user_id":101}
      """
    When a client sends POST "<deposit>"
      """
      {"user_id":101,"amount":"500.00"}
      """
    Then the answer is 200
      """
      {"id":1,"user_id":101,"balance":"500.00"}
      """
    When a client sends GET "<account>"
    Then the answer is 200
      """
      {"id":1,"user_id":101,"balance":"500.00"}
      """

    Examples: with and without the slash at the end
      | deposit               | account           |
      | /v1/accounts/deposit  | /v1/accounts/101  |
      | /v1/accounts/deposit/ | /v1/accounts/101/ |

  Scenario Outline: Money always has two decimals
    Given a client has sent POST "/v1/accounts"
      """
      {"user_id":101}
      """
    When a client sends POST "/v1/accounts/deposit"
      """
      {"user_id":101,"amount":<given>}
      """
    Then the answer is 200
      """
      {"id":1,"user_id":101,"balance":"<kept>"}
      """

    Examples:
      | given                 | kept                |
      | "5"                   | 5.00                |
      | "0.1"                 | 0.10                |
      | 500.5                 | 500.50              |
      | "9999999999999999.99" | 9999999999999999.99 |

  Scenario: A customer has one account
    Given a client has sent POST "/v1/accounts"
      """
      {"user_id":101}
      """
    When a client sends POST "/v1/accounts"
      """
      {"user_id":101}
      """
    Then the answer is 409
      """
      {"detail":"Account already exists","code":"account_exists","request_id":"…"}
      """

  Scenario: Nobody deposits into an account that is not there
    When a client sends POST "/v1/accounts/deposit"
      """
      {"user_id":101,"amount":"500.00"}
      """
    Then the answer is 404
      """
      {"detail":"Account not found","code":"account_not_found","request_id":"…"}
      """
    When a client sends GET "/v1/accounts/101"
    Then the answer is 404
      """
      {"detail":"Account not found","code":"account_not_found","request_id":"…"}
      """
