//! The typed words of the features: people, amounts, states of an order, services.

use std::convert::Infallible;
use std::str::FromStr;

use contracts::{Money, MoneyError};
use cucumber::Parameter;
use prover::client::Status;

use crate::process::Service;

/// A customer, by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Parameter)]
#[param(name = "person", regex = "Ana|Ben|Cleo")]
pub(crate) struct Person(pub(crate) String);

impl FromStr for Person {
    type Err = Infallible;

    fn from_str(name: &str) -> Result<Self, Infallible> {
        Ok(Self(name.to_owned()))
    }
}

/// An amount of money, always with two decimals.
#[derive(Clone, Copy, Debug, Parameter)]
#[param(name = "money", regex = r"\d+\.\d{2}")]
pub(crate) struct Amount(pub(crate) Money);

impl FromStr for Amount {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Self, MoneyError> {
        text.parse().map(Self)
    }
}

/// Where an order stands.
#[derive(Clone, Copy, Debug, Parameter)]
#[param(name = "state", regex = "open|finished|cancelled")]
pub(crate) struct State(pub(crate) Status);

impl FromStr for State {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        match word {
            "open" => Ok(Self(Status::New)),
            "finished" => Ok(Self(Status::Finished)),
            "cancelled" => Ok(Self(Status::Cancelled)),
            _ => Err(UnknownWord),
        }
    }
}

/// One of the three services.
#[derive(Clone, Copy, Debug, Parameter)]
#[param(name = "service", regex = "Orders|Payments|the gateway")]
pub(crate) struct Which(pub(crate) Service);

impl FromStr for Which {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        match word {
            "Orders" => Ok(Self(Service::Orders)),
            "Payments" => Ok(Self(Service::Payments)),
            "the gateway" => Ok(Self(Service::Gateway)),
            _ => Err(UnknownWord),
        }
    }
}

/// Which id the second delivery of a message has.
#[derive(Clone, Copy, Debug, Parameter)]
#[param(name = "identity", regex = "its own id|a new id")]
pub(crate) struct Identity(pub(crate) prover::duplicator::CopyId);

impl FromStr for Identity {
    type Err = UnknownWord;

    fn from_str(words: &str) -> Result<Self, UnknownWord> {
        match words {
            "its own id" => Ok(Self(prover::duplicator::CopyId::Same)),
            "a new id" => Ok(Self(prover::duplicator::CopyId::New)),
            _ => Err(UnknownWord),
        }
    }
}

/// A word that the parameter's own pattern does not let through.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("no such word")]
pub(crate) struct UnknownWord;
