//! The two messages. Field order is the byte order of the body: what is stored in an outbox is
//! these bytes, and every re-send is the same bytes.

use serde::{Deserialize, Serialize};

use crate::{Money, OrderId, OrderUid, UserId};

/// Value of the `schema_version` header of both messages. A reader parks a newer one.
pub const SCHEMA_VERSION: i16 = 1;

/// Orders asks Payments to charge an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentRequested {
    /// What is paid once.
    pub order_uid: OrderUid,
    /// For people and for the answer; never a key.
    pub order_id: OrderId,
    /// Whose account.
    pub user_id: UserId,
    /// How much.
    pub amount: Money,
}

/// Payments tells what it decided, for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentSettled {
    /// What was decided on.
    pub order_uid: OrderUid,
    /// As it stood in the request.
    pub order_id: OrderId,
    /// As it stood in the request.
    pub user_id: UserId,
    /// As it stood in the request.
    pub amount: Money,
    /// Whether the account was charged.
    pub outcome: Outcome,
    /// Why not; `null` when it was.
    pub reason: Option<DeclineReason>,
}

/// Whether an account was charged for an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Charged, once.
    Paid,
    /// Not charged, and never will be.
    Declined,
}

/// Why an account was not charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeclineReason {
    /// The user has no account.
    NoAccount,
    /// The balance is below the amount.
    InsufficientFunds,
}

/// Writes a plain struct of strings and numbers; that cannot fail.
fn to_json(message: &impl Serialize) -> String {
    serde_json::to_string(message).expect("a flat struct is always JSON")
}

impl PaymentRequested {
    /// AMQP `type` and routing key.
    pub const KIND: &'static str = "payment.requested";

    /// The body's bytes.
    #[must_use]
    pub fn to_body(&self) -> String {
        to_json(self)
    }

    /// Reads a body as from a stranger.
    ///
    /// # Errors
    /// Not JSON, a field missing or of the wrong form, or an amount of nothing.
    pub fn from_body(body: &str) -> Result<Self, serde_json::Error> {
        let message: Self = serde_json::from_str(body)?;
        if message.amount.is_zero() {
            return Err(serde::de::Error::custom("amount is not above zero"));
        }
        Ok(message)
    }

    /// The body's text before and after the digits of `order_id`, for a writer that learns the
    /// number only while it inserts the row: `{before}{order_id}{after}` is [`Self::to_body`].
    #[must_use]
    pub fn body_around_order_id(
        order_uid: OrderUid,
        user_id: UserId,
        amount: Money,
    ) -> (String, String) {
        (
            format!(r#"{{"order_uid":"{order_uid}","order_id":"#),
            format!(r#","user_id":{user_id},"amount":"{amount}"}}"#),
        )
    }
}

impl PaymentSettled {
    /// AMQP `type` and routing key.
    pub const KIND: &'static str = "payment.settled";

    /// The body's bytes.
    #[must_use]
    pub fn to_body(&self) -> String {
        to_json(self)
    }

    /// Reads a body as from a stranger.
    ///
    /// # Errors
    /// Not JSON, a field missing or of the wrong form, an amount of nothing, or an outcome that
    /// does not fit its reason.
    pub fn from_body(body: &str) -> Result<Self, serde_json::Error> {
        let message: Self = serde_json::from_str(body)?;
        if message.amount.is_zero() {
            return Err(serde::de::Error::custom("amount is not above zero"));
        }
        if (message.outcome == Outcome::Paid) != message.reason.is_none() {
            return Err(serde::de::Error::custom("outcome and reason do not fit"));
        }
        Ok(message)
    }
}

impl Outcome {
    /// The word on the wire and in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Paid => "paid",
            Self::Declined => "declined",
        }
    }
}

impl DeclineReason {
    /// The word on the wire and in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoAccount => "no_account",
            Self::InsufficientFunds => "insufficient_funds",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    proptest! {
        #[test]
        fn a_body_put_together_around_the_number_has_the_same_bytes(
            uid: u128, order: i64, user: i64, cents in 1..=999_999_999_999_999_999_i64,
        ) {
            let message = PaymentRequested {
                order_uid: OrderUid(Uuid::from_u128(uid)),
                order_id: OrderId(order),
                user_id: UserId(user),
                amount: rust_decimal::Decimal::new(cents, 2).try_into().expect("in range"),
            };
            let (before, after) = PaymentRequested::body_around_order_id(
                message.order_uid, message.user_id, message.amount);
            prop_assert_eq!(format!("{before}{order}{after}"), message.to_body());
            prop_assert_eq!(PaymentRequested::from_body(&message.to_body()).expect("own body"), message);
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in any::<String>()) {
            let _ = PaymentRequested::from_body(&text);
            let _ = PaymentSettled::from_body(&text);
        }
    }
}
