//! The closed list of error codes. A new one is a change of the contract.

use serde::{Serialize, Serializer};
use utoipa::ToSchema;

/// What went wrong, in one word that programs may rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ToSchema)]
#[schema(as = ErrorCode, rename_all = "snake_case")]
pub enum Code {
    /// The path leads nowhere.
    NotFound,
    /// No such order, or somebody else's.
    OrderNotFound,
    /// The user has no account.
    AccountNotFound,
    /// The user has an account already.
    AccountExists,
    /// The balance would grow beyond what an account can hold.
    BalanceLimit,
    /// The input has faults; they are listed.
    ValidationError,
    /// The path does not serve this method.
    MethodNotAllowed,
    /// The body is larger than 64 KiB.
    PayloadTooLarge,
    /// The body is encoded in a way that is not read.
    UnsupportedMediaType,
    /// The request cannot be read at all.
    BadRequest,
    /// The body did not come in time.
    RequestTimeout,
    /// The `Idempotency-Key` is not 1 to 255 visible ASCII characters.
    IdempotencyKeyInvalid,
    /// The `Idempotency-Key` was used with another request.
    IdempotencyKeyReused,
    /// The first request with this `Idempotency-Key` is still at work.
    IdempotencyKeyInFlight,
    /// No valid token.
    Unauthorized,
    /// The token is somebody else's.
    Forbidden,
    /// Too many requests.
    RateLimited,
    /// A fault of the service.
    InternalError,
    /// The service behind the gateway cannot be reached, or broke off before it answered; in the
    /// latter case what happened is unknown.
    UpstreamUnreachable,
    /// The service behind the gateway did not answer in time; what happened is unknown.
    UpstreamTimeout,
    /// The service cannot answer now; try again.
    Unavailable,
}

impl Code {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::OrderNotFound => "order_not_found",
            Self::AccountNotFound => "account_not_found",
            Self::AccountExists => "account_exists",
            Self::BalanceLimit => "balance_limit",
            Self::ValidationError => "validation_error",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::PayloadTooLarge => "payload_too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::BadRequest => "bad_request",
            Self::RequestTimeout => "request_timeout",
            Self::IdempotencyKeyInvalid => "idempotency_key_invalid",
            Self::IdempotencyKeyReused => "idempotency_key_reused",
            Self::IdempotencyKeyInFlight => "idempotency_key_in_flight",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::RateLimited => "rate_limited",
            Self::InternalError => "internal_error",
            Self::UpstreamUnreachable => "upstream_unreachable",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::Unavailable => "unavailable",
        }
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
