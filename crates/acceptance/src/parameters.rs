//! The typed words of the features: people, amounts, states of an order, services.

use std::convert::Infallible;
use std::str::FromStr;

use contracts::{Money, MoneyError};
use cucumber::Parameter;
use prover::client::Status;
use sandbox::Link;

use crate::process::{Instance, Service};

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

/// One process of one of the three services; the only one, where no number is said.
#[derive(Clone, Copy, Debug, Parameter)]
#[param(
    name = "service",
    regex = "Orders|Payments|the gateway|the second Orders|the second Payments"
)]
pub(crate) struct Which(pub(crate) Instance);

impl FromStr for Which {
    type Err = UnknownWord;

    fn from_str(words: &str) -> Result<Self, UnknownWord> {
        let (word, number) = match words.strip_prefix("the second ") {
            Some(word) => (word, 2),
            None => (words, 1),
        };
        let service = match word {
            "Orders" => Service::Orders,
            "Payments" => Service::Payments,
            "the gateway" => Service::Gateway,
            _ => return Err(UnknownWord),
        };
        Ok(Self(Instance { service, number }))
    }
}

/// Where a way leads that can be harmed.
#[derive(Clone, Copy, Debug, Parameter)]
#[param(name = "far", regex = "its database|the broker|the gateway")]
pub(crate) enum FarEnd {
    Database,
    Broker,
    Gateway,
}

impl FromStr for FarEnd {
    type Err = UnknownWord;

    fn from_str(words: &str) -> Result<Self, UnknownWord> {
        match words {
            "its database" => Ok(Self::Database),
            "the broker" => Ok(Self::Broker),
            "the gateway" => Ok(Self::Gateway),
            _ => Err(UnknownWord),
        }
    }
}

/// What a way does to what is sent on it.
#[derive(Clone, Copy, Debug, Parameter)]
#[param(
    name = "harm",
    regex = "is cut|resets everybody|swallows everything|swallows all requests|swallows all answers"
)]
pub(crate) struct Harm(pub(crate) Link);

impl FromStr for Harm {
    type Err = UnknownWord;

    fn from_str(words: &str) -> Result<Self, UnknownWord> {
        match words {
            "is cut" => Ok(Self(Link::Down)),
            "resets everybody" => Ok(Self(Link::Reset)),
            "swallows everything" => Ok(Self(Link::Stalled)),
            "swallows all requests" => Ok(Self(Link::RequestsHeld)),
            "swallows all answers" => Ok(Self(Link::AnswersHeld)),
            _ => Err(UnknownWord),
        }
    }
}

/// How one node of the broker is lost.
#[derive(Clone, Copy, Debug, Parameter)]
#[param(name = "loss", regex = "killed|cut off|paused")]
pub(crate) enum Loss {
    Killed,
    CutOff,
    Paused,
}

impl FromStr for Loss {
    type Err = UnknownWord;

    fn from_str(words: &str) -> Result<Self, UnknownWord> {
        match words {
            "killed" => Ok(Self::Killed),
            "cut off" => Ok(Self::CutOff),
            "paused" => Ok(Self::Paused),
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
