//! Tests of the house itself: edges between crates, walls inside them, names, waits, documents.
//!
//! A rule is a pure function over a path and a text, with a test beside it in which it is red;
//! `tests/house.rs` runs each one over the whole checkout. What the compiler or clippy can hold
//! (`clippy.toml`, the lints in `Cargo.toml`) is not repeated here.

pub mod documents;
pub mod edges;
mod finding;
pub mod house;
mod lexer;
pub mod names;
mod source;
pub mod text;
mod wall;
pub mod walls;

pub use finding::Finding;
pub use source::{Part, Source};
pub use wall::Wall;
