//! Pins every byte of the messages: an old reader and a new writer must agree.

use contracts::{
    DeclineReason, OrderId, OrderUid, Outcome, PaymentRequested, PaymentSettled, UserId,
};
use uuid::uuid;

fn requested() -> PaymentRequested {
    PaymentRequested {
        order_uid: OrderUid(uuid!("019a0000-0000-7000-8000-000000000001")),
        order_id: OrderId(123),
        user_id: UserId(101),
        amount: "150.00".parse().expect("money"),
    }
}

fn settled(outcome: Outcome, reason: Option<DeclineReason>) -> PaymentSettled {
    let PaymentRequested {
        order_uid,
        order_id,
        user_id,
        amount,
    } = requested();
    PaymentSettled {
        order_uid,
        order_id,
        user_id,
        amount,
        outcome,
        reason,
    }
}

#[test]
fn a_request_has_these_bytes() {
    let golden = include_str!("../golden/payment.requested.json").trim_end();
    assert_eq!(requested().to_body(), golden);
    assert_eq!(
        PaymentRequested::from_body(golden).expect("golden"),
        requested()
    );
}

#[test]
fn a_result_has_these_bytes() {
    for (golden, message) in [
        (
            include_str!("../golden/payment.settled.paid.json"),
            settled(Outcome::Paid, None),
        ),
        (
            include_str!("../golden/payment.settled.no_account.json"),
            settled(Outcome::Declined, Some(DeclineReason::NoAccount)),
        ),
        (
            include_str!("../golden/payment.settled.insufficient_funds.json"),
            settled(Outcome::Declined, Some(DeclineReason::InsufficientFunds)),
        ),
    ] {
        let golden = golden.trim_end();
        assert_eq!(message.to_body(), golden);
        assert_eq!(PaymentSettled::from_body(golden).expect("golden"), message);
    }
}

#[test]
fn a_stranger_s_body_is_refused_and_an_unknown_field_is_not() {
    let good = requested().to_body();
    assert!(PaymentRequested::from_body(&good.replace("}", r#","note":"new"}"#)).is_ok());
    for (field, bad) in [
        (r#""150.00""#, "150.00"),
        (r#""150.00""#, r#""NaN""#),
        (r#""150.00""#, r#""0.00""#),
        (r#""150.00""#, r#""-1.00""#),
        (r#""150.00""#, r#""0.001""#),
        ("101", "9223372036854775808"),
        ("101", r#""101""#),
        ("123", "null"),
        ("019a0000", "zzz"),
    ] {
        let body = good.replace(field, bad);
        assert!(PaymentRequested::from_body(&body).is_err(), "{body}");
    }
    let paid = settled(Outcome::Paid, Some(DeclineReason::NoAccount)).to_body();
    assert!(PaymentSettled::from_body(&paid).is_err());
    let declined = settled(Outcome::Declined, None).to_body();
    assert!(PaymentSettled::from_body(&declined).is_err());
}
