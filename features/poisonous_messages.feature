Feature: A message that cannot be processed is set aside
  It is kept with the reason, and its neighbours go on.

  Background:
    Given the system is running
    And every service is ready
    And Ana has an account with 100.00

  @C1 @C2 @C3 @C4 @C5 @C7 @C8 @C10 @C11 @C12 @C15
  Scenario Outline: <service> is sent a message <fault>
    Given Ana has ordered for 1.00
    When <service> is sent a message "<fault>"
    And Ana orders for 30.00
    Then Ana's order is finished
    And <service> has parked it as <reason>
    And 2 of Ana's orders are finished and 0 are cancelled
    And Ana's balance is 69.00
    And <service> had each of its messages once
    And <service> is ready for everything

    Examples:
      | service  | fault                              | reason          |
      | Payments | that is cut short                  | not_json        |
      | Payments | without any content                | not_json        |
      | Payments | that is not UTF-8                  | not_json        |
      | Payments | without an id                      | no_message_id   |
      | Payments | with an id that is none            | bad_message_id  |
      | Payments | with an empty id                   | no_message_id   |
      | Payments | with an id of 255 signs            | bad_message_id  |
      | Payments | of an unknown type                 | unknown_type    |
      | Payments | of a version to come               | unknown_version |
      | Payments | about less than no money           | bad_field       |
      | Payments | that is compressed                 | encoding        |
      | Orders   | that is cut short                  | not_json        |
      | Orders   | that is not UTF-8                  | not_json        |
      | Orders   | about no money                     | bad_field       |
      | Payments | about more money than there can be | bad_field       |
      | Payments | about a fraction of a cent         | bad_field       |
      | Payments | about what is no number            | bad_field       |
      | Payments | about more than any number is      | bad_field       |
      | Payments | about a number without quotes      | bad_field       |
      | Payments | about a customer with an impossible number | bad_field |
      | Orders   | about an order that nobody placed  | unknown_order   |

  @C13
  Scenario: A message as large as the broker takes, and one that is larger
    Given Ana has ordered for 1.00
    When Payments is sent a message "of an unknown type, as large as the broker takes"
    Then Payments has parked it as unknown_type
    When Payments is sent a message that is larger by one byte, the broker refuses it
    And Ana orders for 30.00
    Then Ana's order is finished
    And Payments is ready for everything

  @C14
  Scenario Outline: A message that is made to do harm: <fault>
    Given Ana has ordered for 1.00
    When Payments is sent a message "<fault>"
    And Ana orders for 30.00
    Then Ana's order is finished
    And Payments has parked it as <reason>
    And Payments had each of its messages once
    And Payments is ready for everything

    Examples:
      | fault                                     | reason       |
      | that is nested a hundred thousand deep    | not_json     |
      | of an unknown type, with 4,000 headers    | unknown_type |
      | of an unknown type, with a forged history | unknown_type |
