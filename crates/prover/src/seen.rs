//! What clients know from their own requests: which orders they asked for and which were
//! acknowledged. Filled by whoever sends requests; read by the rules on lost and phantom orders.

use std::collections::BTreeMap;

use contracts::Money;

/// What the clients of some users saw. The users must be theirs alone: an order of one of these
/// users that nobody here asked for is a phantom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    acknowledged: BTreeMap<i64, Placed>,
    twice: Vec<i64>,
    invoked: BTreeMap<Placed, u64>,
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Placed {
    pub(crate) user_id: i64,
    pub(crate) amount: Money,
}

impl Seen {
    /// An order was asked for, whatever became of it. Leave out what was certainly without effect.
    pub fn invoked(&mut self, user_id: i64, amount: Money) {
        *self.invoked.entry(Placed { user_id, amount }).or_default() += 1;
    }

    /// The service answered that this order is placed. Tell [`Seen::invoked`] as well.
    pub fn acknowledged(&mut self, order_id: i64, user_id: i64, amount: Money) {
        let placed = Placed { user_id, amount };
        if self.acknowledged.insert(order_id, placed).is_some() {
            self.twice.push(order_id);
        }
    }

    /// Adds what another client saw.
    pub fn join(&mut self, other: Seen) {
        for (order_id, placed) in other.acknowledged {
            self.acknowledged(order_id, placed.user_id, placed.amount);
        }
        self.twice.extend(other.twice);
        for (placed, times) in other.invoked {
            *self.invoked.entry(placed).or_default() += times;
        }
    }

    /// How many different orders were acknowledged.
    #[must_use]
    pub fn acknowledged_count(&self) -> usize {
        self.acknowledged.len()
    }

    pub(crate) fn acknowledged_orders(&self) -> &BTreeMap<i64, Placed> {
        &self.acknowledged
    }

    /// Ids that stood in two answers: one of the two orders is lost.
    pub(crate) fn acknowledged_twice(&self) -> &[i64] {
        &self.twice
    }

    pub(crate) fn times_invoked(&self, placed: &Placed) -> u64 {
        self.invoked.get(placed).copied().unwrap_or_default()
    }

    /// Each user once, in order.
    pub(crate) fn users(&self) -> Vec<i64> {
        let mut users: Vec<i64> = self.invoked.keys().map(|placed| placed.user_id).collect();
        users.dedup();
        users
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn money(text: &str) -> Money {
        text.parse().expect("an amount")
    }

    #[test]
    fn what_two_clients_saw_adds_up() {
        let mut ana = Seen::default();
        ana.invoked(1, money("2.00"));
        ana.acknowledged(10, 1, money("2.00"));
        let mut ben = Seen::default();
        ben.invoked(1, money("2.00"));
        ben.invoked(2, money("3.00"));
        ben.acknowledged(10, 1, money("2.00"));
        ana.join(ben);
        let placed = Placed {
            user_id: 1,
            amount: money("2.00"),
        };
        assert_eq!(ana.times_invoked(&placed), 2);
        assert_eq!(ana.users(), [1, 2]);
        assert_eq!(ana.acknowledged_count(), 1);
        assert_eq!(ana.acknowledged_twice(), [10]);
    }
}
