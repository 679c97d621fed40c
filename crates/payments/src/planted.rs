//! What the faults planted for the acceptance suite do to the tables of Payments. Only builds
//! with postbox's feature `failpoints` come here, and only when told so.

mod store;

pub(crate) use store::*;
