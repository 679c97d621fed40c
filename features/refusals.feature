@sample
Feature: A request that cannot be served is told why
  In one form for every error: `detail` as FastAPI gives it, a code for programs, and the request's id.

  Background:
    Given the system is running

  Scenario Outline: A path that leads nowhere
    When a client sends <method> "<path>"
    Then the answer is 404
      """
      {"detail":"Not Found","code":"not_found","request_id":"…"}
      """

    Examples:
      | method | path         |
      | GET    | /            |
      | GET    | /v1/invoices |
      | POST   | /v2/orders/  |

  Scenario Outline: A method that a path does not serve
    When a client sends <method> "<path>"
    Then the answer is 405
      """
      {"detail":"Method Not Allowed","code":"method_not_allowed","request_id":"…"}
      """
    And its header "allow" names <allowed>

    Examples:
      | method | path                 | allowed      |
      | PUT    | /v1/accounts         | POST         |
      | DELETE | /v1/accounts/101     | GET          |
      | PATCH  | /v1/orders/          | GET and POST |
      | DELETE | /v1/orders           | GET and POST |
      | PUT    | /v1/orders/1         | GET          |

  Scenario Outline: What is wrong with a new account
    When a client sends POST "/v1/accounts"
      """
      <body>
      """
    Then the answer is 422
      """
      {"detail":[<fault>],"code":"validation_error","request_id":"…"}
      """

    Examples:
      | body              | fault                                                                                                                                                              |
      | {}                | {"type":"missing","loc":["body","user_id"],"msg":"Field required","input":{}}                                                                                      |
      | {"user_id":"abc"} | {"type":"int_parsing","loc":["body","user_id"],"msg":"Input should be a valid integer, unable to parse string as an integer","input":"abc"}                       |
      | {"user_id":0}     | {"type":"greater_than","loc":["body","user_id"],"msg":"Input should be greater than 0","input":0,"ctx":{"gt":0}}                                                   |
      | {"user_id":null}  | {"type":"int_type","loc":["body","user_id"],"msg":"Input should be a valid integer","input":null}                                                                  |
      | []                | {"type":"model_attributes_type","loc":["body"],"msg":"Input should be a valid dictionary or object to extract fields from","input":[]}                             |

  Scenario Outline: What is wrong with an amount
    When a client sends POST "/v1/orders/"
      """
      {"user_id":101,"amount":<amount>,"description":"хз"}
      """
    Then the answer is 422
      """
      {"detail":[{"type":"<type>","loc":["body","amount"],"msg":"<message>","input":<amount><limit>}],"code":"validation_error","request_id":"…"}
      """

    Examples:
      | amount                 | type                 | message                                                                    | limit                          |
      | "-1.00"                | greater_than         | Input should be greater than 0                                             | ,"ctx":{"gt":0}                |
      | "0.00"                 | greater_than         | Input should be greater than 0                                             | ,"ctx":{"gt":0}                |
      | "0.001"                | decimal_max_places   | Decimal input should have no more than 2 decimal places                    | ,"ctx":{"decimal_places":2}    |
      | "99999999999999999.99" | decimal_max_digits   | Decimal input should have no more than 18 digits in total                  | ,"ctx":{"max_digits":18}       |
      | "NaN"                  | finite_number        | Input should be a finite number                                            |                                |
      | "5,00"                 | decimal_parsing      | Input should be a valid decimal                                            |                                |

  Scenario: All faults of a request are told at once
    When a client sends POST "/v1/orders/"
      """
      {"amount":"0"}
      """
    Then the answer is 422
      """
      {"detail":[{"type":"missing","loc":["body","user_id"],"msg":"Field required","input":{"amount":"0"}},{"type":"greater_than","loc":["body","amount"],"msg":"Input should be greater than 0","input":"0","ctx":{"gt":0}},{"type":"missing","loc":["body","description"],"msg":"Field required","input":{"amount":"0"}}],"code":"validation_error","request_id":"…"}
      """

  Scenario Outline: What is wrong with a path or a query
    When a client sends GET "<path>"
    Then the answer is 422
      """
      {"detail":[<fault>],"code":"validation_error","request_id":"…"}
      """

    Examples:
      | path                         | fault                                                                                                                                                                      |
      | /v1/orders/                  | {"type":"missing","loc":["query","user_id"],"msg":"Field required","input":null}                                                                                           |
      | /v1/orders/1                 | {"type":"missing","loc":["query","user_id"],"msg":"Field required","input":null}                                                                                           |
      | /v1/orders/abc?user_id=101   | {"type":"int_parsing","loc":["path","order_id"],"msg":"Input should be a valid integer, unable to parse string as an integer","input":"abc"}                              |
      | /v1/accounts/abc             | {"type":"int_parsing","loc":["path","user_id"],"msg":"Input should be a valid integer, unable to parse string as an integer","input":"abc"}                               |

  Scenario: A refused order leaves nothing behind
    When a client sends POST "/v1/orders/"
      """
      {"user_id":101,"amount":"-1.00","description":"хз"}
      """
    Then the answer is 422
    When a client sends GET "/v1/orders/?user_id=101"
    Then the answer is 200
      """
      []
      """
