//! How the error bodies look in the OpenAPI document. The names are those that FastAPI gives, so
//! that generated clients keep theirs. Nothing here is sent; [`super::ApiError`] is.

use serde::Serialize;
use utoipa::ToSchema;

use super::Code;

/// Body of every error but 422.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorBody {
    /// For people.
    #[schema(example = "Order not found")]
    pub detail: String,
    /// For programs.
    pub code: Code,
    /// The request's id, as in the header `X-Request-Id`.
    pub request_id: String,
}

/// Body of 422 when the input has faults.
#[derive(Debug, Serialize, ToSchema)]
pub struct HTTPValidationError {
    /// All faults: those of the path, then of the query, then of the body.
    pub detail: Vec<ValidationError>,
    /// Always `validation_error`.
    pub code: Code,
    /// The request's id, as in the header `X-Request-Id`.
    pub request_id: String,
}

/// One fault of the input.
#[derive(Debug, Serialize, ToSchema)]
pub struct ValidationError {
    /// What kind of fault it is.
    #[schema(example = "missing")]
    pub r#type: String,
    /// Where it is: `path`, `query` or `body`, then the name or position.
    #[schema(value_type = Vec<Location>, example = json!(["body", "amount"]))]
    pub loc: Vec<Location>,
    /// For people.
    #[schema(example = "Field required")]
    pub msg: String,
    /// What was given.
    #[schema(value_type = Value)]
    pub input: serde_json::Value,
    /// The limits that were broken.
    #[schema(value_type = Option<Object>)]
    pub ctx: Option<serde_json::Value>,
}

/// One step of a fault's place: a name, or a position in the text.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = ErrorLocation)]
pub enum Location {
    /// A name.
    Name(String),
    /// A position.
    Position(u64),
}
