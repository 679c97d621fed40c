//! Who can pay what: decides a batch of charges in delivery order. Pure: no SQL, no waiting.

use std::collections::{HashMap, HashSet};

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
    /// Not to be decided now: the account is not ours to lock.
    Wait,
    /// The order was decided, or waits, for another user or amount; the first request stands.
    Conflict,
}

/// What is known when a batch is decided, and is brought up to date by it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Books {
    /// The accounts that are locked for this batch.
    pub(crate) balances: HashMap<UserId, Money>,
    /// Users whose account is not to be touched: somebody else holds it, or earlier requests wait
    /// for it.
    pub(crate) held: HashSet<UserId>,
    /// What was decided before; a second request in the same batch finds the first.
    pub(crate) decided: HashMap<OrderUid, Decided>,
    /// Of the orders that wait: whose they are, and for how much.
    pub(crate) waiting: HashMap<OrderUid, (UserId, Money)>,
}

/// Decides requests in the order they were delivered.
pub(crate) fn decide(requests: &[&PaymentRequested], books: &mut Books) -> Vec<Decision> {
    requests
        .iter()
        .map(|request| {
            let asked = (request.user_id, request.amount);
            if let Some(known) = books.decided.get(&request.order_uid) {
                // Needs no account: what is decided stays so.
                return if asked == (known.user_id, known.amount) {
                    Decision::Known(*known)
                } else {
                    Decision::Conflict
                };
            }
            match books.waiting.get(&request.order_uid) {
                Some(first) if *first != asked => return Decision::Conflict,
                Some(_) => return Decision::Wait,
                None => {}
            }
            if books.held.contains(&request.user_id) {
                books.waiting.insert(request.order_uid, asked);
                return Decision::Wait;
            }
            let new = charge(request, &mut books.balances);
            books.decided.insert(request.order_uid, new);
            Decision::New(new)
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
            Decision::Wait => (3, None, None),
        }
    }

    fn books(balances: impl IntoIterator<Item = (i64, i64)>) -> Books {
        Books {
            balances: balances
                .into_iter()
                .map(|(user, cents)| (UserId(user), money(cents)))
                .collect(),
            ..Books::default()
        }
    }

    #[test]
    fn a_small_order_passes_after_a_large_one_was_declined() {
        let requests = [request(1, 1, 900), request(2, 1, 1100), request(3, 1, 100)];
        let mut books = books([(1, 1000)]);
        let decisions = decide(&requests.each_ref(), &mut books);
        let outcomes: Vec<_> = decisions.iter().map(|d| plain(d).1).collect();
        assert_eq!(
            outcomes,
            [
                Some(Outcome::Paid),
                Some(Outcome::Declined),
                Some(Outcome::Paid)
            ]
        );
        assert_eq!(books.balances[&UserId(1)], money(0));
    }

    #[test]
    fn a_declined_order_stays_declined_after_a_deposit() {
        let order = request(1, 1, 500);
        let mut books = books([(1, 0)]);
        let first = decide(&[&order], &mut books);
        books.balances.insert(UserId(1), money(10_000));
        let second = decide(&[&order], &mut books);
        assert!(matches!((&first[0], &second[0]),
            (Decision::New(first), Decision::Known(second)) if first == second));
        assert_eq!(books.balances[&UserId(1)], money(10_000));
    }

    #[test]
    fn the_same_order_for_another_amount_or_user_is_a_conflict() {
        let mut books = books([(1, 1000), (2, 1000)]);
        let requests = [request(1, 1, 100), request(1, 1, 200), request(1, 2, 100)];
        let decisions = decide(&requests.each_ref(), &mut books);
        assert_eq!(decisions[1], Decision::Conflict);
        assert_eq!(decisions[2], Decision::Conflict);
        assert_eq!(books.balances[&UserId(1)], money(900));
        assert_eq!(books.balances[&UserId(2)], money(1000));
    }

    #[test]
    fn an_order_that_waits_is_not_decided_for_somebody_else_meanwhile() {
        let mut books = books([(2, 1000)]);
        books.held.insert(UserId(1));
        let requests = [request(1, 1, 100), request(1, 2, 100), request(1, 1, 100)];
        let decisions = decide(&requests.each_ref(), &mut books);
        assert_eq!(
            decisions,
            [Decision::Wait, Decision::Conflict, Decision::Wait]
        );
        assert_eq!(books.balances[&UserId(2)], money(1000));
    }

    #[test]
    fn what_was_decided_is_answered_although_the_account_is_held() {
        let order = request(1, 1, 100);
        let mut books = books([(1, 1000)]);
        decide(&[&order], &mut books);
        books.held.insert(UserId(1));
        let again = decide(&[&order, &request(1, 1, 200)], &mut books);
        assert!(matches!(again[0], Decision::Known(_)));
        assert_eq!(again[1], Decision::Conflict);
    }

    fn any_request() -> impl Strategy<Value = PaymentRequested> {
        (0..12_u128, 1..4_i64, 1..600_i64)
            .prop_map(|(order, user, cents)| request(order, user, cents))
    }

    /// Requests whose order belongs to one user for one amount, as Orders makes them: copies, but
    /// no contradictions.
    fn any_honest_request() -> impl Strategy<Value = PaymentRequested> {
        (0..24_u128).prop_map(|order| {
            let (user, cents) = (
                i64::try_from(order % 4).expect("small") + 1,
                100 + 37 * order,
            );
            request(order, user, i64::try_from(cents).expect("small"))
        })
    }

    proptest! {
        #[test]
        fn a_batch_decides_as_one_by_one_does(
            requests in prop::collection::vec(any_request(), 0..40),
            cents in prop::collection::vec(0..2_000_i64, 2),
        ) {
            // User 3 has no account.
            let start = books([(1, cents[0]), (2, cents[1])]);
            let mut in_batch = start.clone();
            let borrowed: Vec<&PaymentRequested> = requests.iter().collect();
            let batch = decide(&borrowed, &mut in_batch);

            let mut one_by_one = start.clone();
            for (request, decision) in requests.iter().zip(&batch) {
                let alone = decide(&[request], &mut one_by_one);
                prop_assert_eq!(plain(&alone[0]), plain(decision));
            }
            prop_assert_eq!(&one_by_one.balances, &in_batch.balances);

            // Money is conserved: what left the accounts is what was newly paid.
            let total = |books: &Books| books.balances.values().map(|m| m.as_decimal()).sum::<Decimal>();
            let paid: Decimal = batch.iter().filter_map(|d| match d {
                Decision::New(d) if d.outcome == Outcome::Paid => Some(d.amount.as_decimal()),
                _ => None,
            }).sum();
            prop_assert_eq!(total(&start) - total(&in_batch), paid);
        }

        /// A locker comes and goes between batches; what waits is worked off in its turn. Each
        /// request is decided as if there had been no locker.
        #[test]
        fn setting_aside_and_working_off_decides_as_one_by_one_does(
            batches in prop::collection::vec(
                (
                    prop::collection::vec(any_honest_request(), 0..12),
                    prop::collection::hash_set(1..5_i64, 0..4),
                ),
                1..6,
            ),
            cents in prop::collection::vec(0..2_000_i64, 3),
        ) {
            // User 4 has no account, so nobody can hold it.
            let accounts = [(1, cents[0]), (2, cents[1]), (3, cents[2])];
            let all = batches.iter().flat_map(|(requests, _)| requests);
            let mut expected = books(accounts);
            for request in all {
                decide(&[request], &mut expected);
            }

            let mut books = books(accounts);
            let mut aside: Vec<&PaymentRequested> = Vec::new();
            for (requests, locked) in &batches {
                books.held = locked.iter().filter(|user| **user != 4).map(|user| UserId(*user)).collect();
                books.held.extend(aside.iter().map(|request| request.user_id));
                let borrowed: Vec<&PaymentRequested> = requests.iter().collect();
                let decisions = decide(&borrowed, &mut books);
                aside.extend(borrowed.iter().zip(&decisions).filter_map(
                    |(request, decision)| (*decision == Decision::Wait).then_some(*request),
                ));
                // The worker has its turn with the accounts that are free.
                let free = |request: &&PaymentRequested| !locked.contains(&request.user_id.0);
                let turn: Vec<&PaymentRequested> = aside.iter().copied().filter(free).collect();
                aside.retain(|request| !free(request));
                books.held.clear();
                books.waiting.clear();
                let worked_off = decide(&turn, &mut books);
                prop_assert!(!worked_off.contains(&Decision::Wait));
                books.waiting = aside.iter().map(|r| (r.order_uid, (r.user_id, r.amount))).collect();
            }
            books.held.clear();
            books.waiting.clear();
            decide(&aside, &mut books);

            prop_assert_eq!(&books.balances, &expected.balances);
            prop_assert_eq!(books.decided.len(), expected.decided.len());
            for (order, decided) in &books.decided {
                let expected = &expected.decided[order];
                prop_assert_eq!((decided.outcome, decided.reason), (expected.outcome, expected.reason));
            }
        }
    }
}
