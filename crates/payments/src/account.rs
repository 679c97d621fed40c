//! Who can pay what: decides a batch of charges in delivery order. Pure: no SQL, no waiting.

use std::collections::HashMap;

use contracts::{
    DeclineReason, MessageId, Money, OrderId, OrderUid, Outcome, PaymentRequested, PaymentSettled,
    UserId,
};

/// A user's account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) id: i64,
    pub(crate) user_id: UserId,
    pub(crate) balance: Money,
}

/// A decision as it is stored, for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Decided {
    pub(crate) order_id: OrderId,
    pub(crate) user_id: UserId,
    pub(crate) amount: Money,
    pub(crate) outcome: Outcome,
    pub(crate) reason: Option<DeclineReason>,
    /// The answer's identity: each copy of it is the same message.
    pub(crate) result_message_id: MessageId,
}

/// What a request leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Decided now.
    New(Decided),
    /// Decided before; the stored answer is given again.
    Known(Decided),
    /// The order was decided for another user or amount; the first decision stands.
    Conflict,
}

/// Decides requests in the order they were delivered. `balances` holds the locked accounts of
/// their users and is brought up to date; `decided` holds what was decided before and is added
/// to, so that a second request in the same batch finds the first.
pub(crate) fn decide(
    requests: &[&PaymentRequested],
    balances: &mut HashMap<UserId, Money>,
    decided: &mut HashMap<OrderUid, Decided>,
) -> Vec<Decision> {
    requests
        .iter()
        .map(|request| match decided.get(&request.order_uid) {
            Some(known) if known.user_id == request.user_id && known.amount == request.amount => {
                Decision::Known(*known)
            }
            Some(_) => Decision::Conflict,
            None => {
                let new = charge(request, balances);
                decided.insert(request.order_uid, new);
                Decision::New(new)
            }
        })
        .collect()
}

fn charge(request: &PaymentRequested, balances: &mut HashMap<UserId, Money>) -> Decided {
    let reason = match balances.get_mut(&request.user_id) {
        None => Some(DeclineReason::NoAccount),
        Some(balance) => match balance.checked_sub(request.amount) {
            None => Some(DeclineReason::InsufficientFunds),
            Some(rest) => {
                *balance = rest;
                None
            }
        },
    };
    Decided {
        order_id: request.order_id,
        user_id: request.user_id,
        amount: request.amount,
        outcome: if reason.is_none() {
            Outcome::Paid
        } else {
            Outcome::Declined
        },
        reason,
        result_message_id: MessageId::new(),
    }
}

impl Decided {
    /// The answer: the same bytes each time it is given.
    pub(crate) fn answer(&self, order_uid: OrderUid) -> PaymentSettled {
        PaymentSettled {
            order_uid,
            order_id: self.order_id,
            user_id: self.user_id,
            amount: self.amount,
            outcome: self.outcome,
            reason: self.reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rust_decimal::Decimal;
    use uuid::Uuid;

    fn money(cents: i64) -> Money {
        Decimal::new(cents, 2).try_into().expect("in range")
    }

    fn request(order: u128, user: i64, cents: i64) -> PaymentRequested {
        PaymentRequested {
            order_uid: OrderUid(Uuid::from_u128(order)),
            order_id: OrderId(i64::try_from(order).expect("small")),
            user_id: UserId(user),
            amount: money(cents),
        }
    }

    /// Outcome and reason without the ids, which are new each time.
    fn plain(decision: &Decision) -> (u8, Option<Outcome>, Option<DeclineReason>) {
        match decision {
            Decision::New(d) => (0, Some(d.outcome), d.reason),
            Decision::Known(d) => (1, Some(d.outcome), d.reason),
            Decision::Conflict => (2, None, None),
        }
    }

    #[test]
    fn a_small_order_passes_after_a_large_one_was_declined() {
        let requests = [request(1, 1, 900), request(2, 1, 1100), request(3, 1, 100)];
        let mut balances = HashMap::from([(UserId(1), money(1000))]);
        let decisions = decide(&requests.each_ref(), &mut balances, &mut HashMap::new());
        let outcomes: Vec<_> = decisions.iter().map(|d| plain(d).1).collect();
        assert_eq!(
            outcomes,
            [
                Some(Outcome::Paid),
                Some(Outcome::Declined),
                Some(Outcome::Paid)
            ]
        );
        assert_eq!(balances[&UserId(1)], money(0));
    }

    #[test]
    fn a_declined_order_stays_declined_after_a_deposit() {
        let order = request(1, 1, 500);
        let mut decided = HashMap::new();
        let mut poor = HashMap::from([(UserId(1), money(0))]);
        let first = decide(&[&order], &mut poor, &mut decided);
        let mut rich = HashMap::from([(UserId(1), money(10_000))]);
        let second = decide(&[&order], &mut rich, &mut decided);
        assert!(matches!((&first[0], &second[0]),
            (Decision::New(first), Decision::Known(second)) if first == second));
        assert_eq!(rich[&UserId(1)], money(10_000));
    }

    #[test]
    fn the_same_order_for_another_amount_or_user_is_a_conflict() {
        let mut balances = HashMap::from([(UserId(1), money(1000)), (UserId(2), money(1000))]);
        let requests = [request(1, 1, 100), request(1, 1, 200), request(1, 2, 100)];
        let decisions = decide(&requests.each_ref(), &mut balances, &mut HashMap::new());
        assert_eq!(decisions[1], Decision::Conflict);
        assert_eq!(decisions[2], Decision::Conflict);
        assert_eq!(balances[&UserId(1)], money(900));
        assert_eq!(balances[&UserId(2)], money(1000));
    }

    fn any_request() -> impl Strategy<Value = PaymentRequested> {
        (0..12_u128, 1..4_i64, 1..600_i64)
            .prop_map(|(order, user, cents)| request(order, user, cents))
    }

    proptest! {
        #[test]
        fn a_batch_decides_as_one_by_one_does(
            requests in prop::collection::vec(any_request(), 0..40),
            cents in prop::collection::vec(0..2_000_i64, 2),
        ) {
            // User 3 has no account.
            let start: HashMap<UserId, Money> = [(UserId(1), money(cents[0])), (UserId(2), money(cents[1]))].into();
            let (mut batch_balances, mut batch_decided) = (start.clone(), HashMap::new());
            let borrowed: Vec<&PaymentRequested> = requests.iter().collect();
            let batch = decide(&borrowed, &mut batch_balances, &mut batch_decided);

            let (mut balances, mut decided) = (start.clone(), HashMap::new());
            for (request, in_batch) in requests.iter().zip(&batch) {
                let alone = decide(&[request], &mut balances, &mut decided);
                prop_assert_eq!(plain(&alone[0]), plain(in_batch));
            }
            prop_assert_eq!(&balances, &batch_balances);

            // Money is conserved: what left the accounts is what was newly paid.
            let total = |balances: &HashMap<UserId, Money>| balances.values().map(|m| m.as_decimal()).sum::<Decimal>();
            let paid: Decimal = batch.iter().filter_map(|d| match d {
                Decision::New(d) if d.outcome == Outcome::Paid => Some(d.amount.as_decimal()),
                _ => None,
            }).sum();
            prop_assert_eq!(total(&start) - total(&batch_balances), paid);
        }
    }
}
