//! What an order is, and which result may change it. Pure: no SQL, no HTTP, no waiting.

use contracts::{
    MessageId, Money, OrderId, OrderUid, Outcome, PaymentRequested, PaymentSettled, UserId,
};

/// Where an order stands. It leaves `New` once and then never changes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Status {
    /// Accepted; the payment is under way.
    New,
    /// Charged, once.
    Finished,
    /// Not charged.
    Cancelled,
}

impl Status {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::New => "NEW",
            Self::Finished => "FINISHED",
            Self::Cancelled => "CANCELLED",
        }
    }

    /// Reads the word in the database; a CHECK allows no other.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        [Self::New, Self::Finished, Self::Cancelled]
            .into_iter()
            .find(|status| status.as_str() == word)
    }
}

impl From<Outcome> for Status {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Paid => Self::Finished,
            Outcome::Declined => Self::Cancelled,
        }
    }
}

/// What a client asks for, with the identities it gets before anything is stored: after a commit
/// whose answer was lost, the order is looked up by them.
#[derive(Clone, Debug)]
pub(crate) struct NewOrder {
    pub(crate) order_uid: OrderUid,
    pub(crate) message_id: MessageId,
    pub(crate) user_id: UserId,
    pub(crate) amount: Money,
    pub(crate) description: String,
    pub(crate) traceparent: Option<String>,
    pub(crate) request_id: Option<String>,
}

/// An order as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) id: OrderId,
    pub(crate) user_id: UserId,
    pub(crate) amount: Money,
    pub(crate) description: String,
    pub(crate) status: Status,
}

/// An order that has been NEW for too long: its request, to be sent once more.
#[derive(Clone, Debug)]
pub(crate) struct Unanswered {
    pub(crate) message_id: MessageId,
    pub(crate) request: PaymentRequested,
}

/// The part of an order that a result is judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) user_id: UserId,
    pub(crate) amount: Money,
    pub(crate) status: Status,
}

/// What a result means for an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settlement {
    /// The order gets this status.
    Becomes(Status),
    /// It has that status already.
    Already,
    /// It ended otherwise; the first result stands.
    Contradicts(Status),
    /// There is no such order here.
    Unknown,
    /// The order is another user's or of another amount.
    Differs,
}

/// Judges a result. The first one stands for ever.
pub(crate) fn settle(order: Option<&Known>, result: &PaymentSettled) -> Settlement {
    let Some(order) = order else {
        return Settlement::Unknown;
    };
    if order.user_id != result.user_id || order.amount != result.amount {
        return Settlement::Differs;
    }
    let target = Status::from(result.outcome);
    match order.status {
        Status::New => Settlement::Becomes(target),
        _ if postbox::planted("a_final_status_is_overwritten") => Settlement::Becomes(target),
        status if status == target => Settlement::Already,
        status => Settlement::Contradicts(status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::DeclineReason;
    use proptest::prelude::*;

    fn known(status: Status) -> Known {
        Known {
            user_id: UserId(1),
            amount: "10.00".parse().expect("money"),
            status,
        }
    }

    fn result(outcome: Outcome) -> PaymentSettled {
        PaymentSettled {
            order_uid: OrderUid::new(),
            order_id: OrderId(7),
            user_id: UserId(1),
            amount: "10.00".parse().expect("money"),
            outcome,
            reason: (outcome == Outcome::Declined).then_some(DeclineReason::InsufficientFunds),
        }
    }

    #[test]
    fn a_result_for_another_user_or_amount_settles_nothing() {
        let order = known(Status::New);
        let other_user = PaymentSettled {
            user_id: UserId(2),
            ..result(Outcome::Paid)
        };
        let amount = "10.01".parse().expect("money");
        let other_amount = PaymentSettled {
            amount,
            ..result(Outcome::Paid)
        };
        assert_eq!(settle(Some(&order), &other_user), Settlement::Differs);
        assert_eq!(settle(Some(&order), &other_amount), Settlement::Differs);
        assert_eq!(settle(None, &result(Outcome::Paid)), Settlement::Unknown);
    }

    proptest! {
        /// S7: NEW → FINISHED or NEW → CANCELLED, then frozen, whatever comes.
        #[test]
        fn the_first_result_stands_for_ever(outcomes in prop::collection::vec(any::<bool>(), 1..20)) {
            let mut order = known(Status::New);
            let mut first = None;
            for paid in outcomes {
                let outcome = if paid { Outcome::Paid } else { Outcome::Declined };
                match settle(Some(&order), &result(outcome)) {
                    Settlement::Becomes(status) => {
                        prop_assert_eq!(order.status, Status::New);
                        order.status = status;
                        first = Some(status);
                    }
                    Settlement::Already => prop_assert_eq!(Some(Status::from(outcome)), first),
                    Settlement::Contradicts(status) => {
                        prop_assert_eq!(Some(status), first);
                        prop_assert_ne!(Status::from(outcome), status);
                    }
                    other => prop_assert!(false, "{:?}", other),
                }
            }
            prop_assert_eq!(Some(order.status), first);
        }
    }

    #[test]
    fn words_and_back() {
        for status in [Status::New, Status::Finished, Status::Cancelled] {
            assert_eq!(Status::parse(status.as_str()), Some(status));
        }
        assert_eq!(Status::parse("PAID"), None);
    }
}
