//! Identities. Each has a type of its own, so that a user can never stand where an order should.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

macro_rules! unique {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new id, UUID version 7: later ids sort after earlier ones, which keeps the
            /// indexes they stand in from being written all over.
            #[expect(clippy::new_without_default, reason = "two defaults would not be equal")]
            #[must_use]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// The owner of an account and of orders; given by the client.
    UserId
);
number!(
    /// What people call an order. A restored database can hand the same number out twice, so
    /// nothing is ever paid by it: see [`OrderUid`].
    OrderId
);
unique!(
    /// The business key of a payment: one for the whole life of an order.
    OrderUid
);
unique!(
    /// The identity of a message, made when its outbox row is written and the same on every
    /// re-send; what the inbox remembers.
    MessageId
);
