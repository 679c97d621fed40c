//! The contract's HTTP API as a client sees it. What an answer means for the state of the system
//! is decided here, in one place; what is done about it is the caller's matter. Nothing is retried.

use std::fmt;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// How long a request may take before its fate counts as unknown.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// A client of one base URL; cloning it is cheap, and clones share their connections.
#[derive(Clone, Debug)]
pub struct Client {
    base: String,
    http: reqwest::Client,
}

/// What became of a request, in the terms of a checker of histories: what may have had an effect
/// is never counted as a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<T> {
    /// A success with a complete body: it took effect exactly once, before the answer.
    Ok(T),
    /// An answer that promises that nothing was done.
    Refused {
        /// The HTTP status.
        status: u16,
        /// The body as it came.
        body: String,
    },
    /// Not one byte of the request was sent; nothing was done.
    Unsent {
        /// Why.
        why: String,
    },
    /// It may have taken effect, and may still do so.
    Unknown {
        /// Why; a short text without addresses, so that equal reasons can be counted.
        why: String,
    },
}

/// An answer, whatever it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: reqwest::header::HeaderMap,
    /// The body as text.
    pub body: String,
}

/// An account as it is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Number of the account.
    pub id: i64,
    /// Its owner.
    pub user_id: i64,
    /// Its balance, as the text that came.
    pub balance: String,
}

/// An order as it is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Number of the order.
    pub id: i64,
    /// Its owner.
    pub user_id: i64,
    /// Its amount, as the text that came.
    pub amount: String,
    /// What the client wrote.
    pub description: String,
    /// Where it stands.
    pub status: Status,
}

/// Where an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    /// Not decided yet.
    New,
    /// Charged, once.
    Finished,
    /// Not charged, and never will be.
    Cancelled,
}

impl Status {
    /// Whether it can never change again.
    #[must_use]
    pub fn is_final(self) -> bool {
        self != Self::New
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::New => "NEW",
            Self::Finished => "FINISHED",
            Self::Cancelled => "CANCELLED",
        })
    }
}

impl<T> Outcome<T> {
    /// The success, or a text that tells what came instead.
    ///
    /// # Errors
    /// [`NotOk`] for everything but a success.
    pub fn ok(self) -> Result<T, NotOk> {
        match self {
            Self::Ok(answer) => Ok(answer),
            Self::Refused { status, body } => Err(NotOk(format!("refused with {status}: {body}"))),
            Self::Unsent { why } => Err(NotOk(format!("not sent: {why}"))),
            Self::Unknown { why } => Err(NotOk(format!("fate unknown: {why}"))),
        }
    }

    /// Whether nothing was done, for certain.
    #[must_use]
    pub fn had_no_effect(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Unsent { .. })
    }

    /// The same fate, another form of success.
    fn map<U>(self, with: impl FnOnce(T) -> Outcome<U>) -> Outcome<U> {
        match self {
            Self::Ok(answer) => with(answer),
            Self::Refused { status, body } => Outcome::Refused { status, body },
            Self::Unsent { why } => Outcome::Unsent { why },
            Self::Unknown { why } => Outcome::Unknown { why },
        }
    }
}

/// A request that was not answered with a success.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotOk(String);

impl Client {
    /// A client of `base`, for instance `http://localhost:8000`. Proxies of the environment are
    /// not used and redirects are not followed: the contract has none.
    ///
    /// # Errors
    /// The HTTP library cannot start.
    pub fn new(base: &str) -> Result<Self, reqwest::Error> {
        Self::with_timeout(base, REQUEST_TIMEOUT)
    }

    /// As [`Client::new`], with another bound for each request.
    ///
    /// # Errors
    /// The HTTP library cannot start.
    pub fn with_timeout(base: &str, timeout: Duration) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(timeout)
            .build()?;
        Ok(Self {
            base: base.trim_end_matches('/').to_owned(),
            http,
        })
    }

    /// Opens an account.
    pub async fn open_account(&self, user_id: i64) -> Outcome<Account> {
        let body = serde_json::json!({ "user_id": user_id }).to_string();
        read(self.send("POST", "/v1/accounts", Some(body)).await)
    }

    /// Adds `amount`, literally as given, to an account.
    pub async fn deposit(&self, user_id: i64, amount: &str) -> Outcome<Account> {
        let body = serde_json::json!({ "user_id": user_id, "amount": amount }).to_string();
        read(self.send("POST", "/v1/accounts/deposit", Some(body)).await)
    }

    /// Reads an account.
    pub async fn account(&self, user_id: i64) -> Outcome<Account> {
        read(
            self.send("GET", &format!("/v1/accounts/{user_id}"), None)
                .await,
        )
    }

    /// Places an order for `amount`, literally as given.
    pub async fn place_order(
        &self,
        user_id: i64,
        amount: &str,
        description: &str,
    ) -> Outcome<Order> {
        let body = serde_json::json!({
            "user_id": user_id, "amount": amount, "description": description,
        });
        read(
            self.send("POST", "/v1/orders/", Some(body.to_string()))
                .await,
        )
    }

    /// Reads one order of a user.
    pub async fn order(&self, user_id: i64, order_id: i64) -> Outcome<Order> {
        let path = format!("/v1/orders/{order_id}?user_id={user_id}");
        read(self.send("GET", &path, None).await)
    }

    /// Reads all orders of a user, newest first.
    pub async fn orders(&self, user_id: i64) -> Outcome<Vec<Order>> {
        read(
            self.send("GET", &format!("/v1/orders/?user_id={user_id}"), None)
                .await,
        )
    }

    /// Sends any request, with any text as its body (as `application/json`), and gives back any
    /// answer whose body arrived completely, an error's too, as [`Outcome::Ok`].
    pub async fn send(&self, method: &str, path: &str, body: Option<String>) -> Outcome<Answer> {
        let method = match reqwest::Method::from_bytes(method.as_bytes()) {
            Ok(method) => method,
            Err(error) => {
                return Outcome::Unsent {
                    why: error.to_string(),
                };
            }
        };
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(body) = body {
            request = request
                .header(reqwest::header::CONTENT_TYPE, "application/json")
                .body(body);
        }
        match answer(request).await {
            Ok(answer) => Outcome::Ok(answer),
            Err(error) => lost(&error),
        }
    }
}

async fn answer(request: reqwest::RequestBuilder) -> Result<Answer, reqwest::Error> {
    let response = request.send().await?;
    Ok(Answer {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        body: response.text().await?,
    })
}

/// What is known of a request that was not answered.
fn lost(error: &reqwest::Error) -> Outcome<Answer> {
    if error.is_connect() || error.is_builder() {
        return Outcome::Unsent {
            why: String::from("no connection"),
        };
    }
    let why = if error.is_timeout() {
        "no answer in time"
    } else {
        "the connection broke"
    };
    Outcome::Unknown {
        why: why.to_owned(),
    }
}

/// Decides what an answer means, by its status and code.
fn read<T: DeserializeOwned>(answered: Outcome<Answer>) -> Outcome<T> {
    answered.map(|Answer { status, body, .. }| match status {
        200..=299 => match serde_json::from_str(&body) {
            Ok(answer) => Outcome::Ok(answer),
            // It says that it worked, so it may have; but not what was done.
            Err(_) => Outcome::Unknown {
                why: format!("status {status} with another body"),
            },
        },
        409 if code(&body).as_deref() == Some("idempotency_key_in_flight") => Outcome::Unknown {
            why: String::from("the same key is in flight"),
        },
        400 | 401 | 403 | 404 | 405 | 409 | 413 | 415 | 422 | 429 => {
            Outcome::Refused { status, body }
        }
        _ => Outcome::Unknown {
            why: format!("status {status}"),
        },
    })
}

/// The `code` of an error body.
fn code(body: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Error {
        code: String,
    }
    serde_json::from_str::<Error>(body)
        .ok()
        .map(|error| error.code)
}
