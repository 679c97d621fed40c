//! One fault of the input, with the type names and texts that pydantic gives. Where a rule is
//! ours alone (a NUL in a text, a value given twice) the name says what is wrong.

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

/// One step of the way to a fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Place {
    /// `path`, `query`, `body`, or the name of a value.
    Name(String),
    /// A position in a text.
    Position(usize),
}

impl From<&str> for Place {
    fn from(name: &str) -> Self {
        Self::Name(name.to_owned())
    }
}

/// One fault: `{"type","loc","msg","input"(,"ctx")}`.
#[derive(Clone, Debug, Serialize)]
pub struct Fault {
    r#type: &'static str,
    loc: Vec<Place>,
    msg: String,
    input: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ctx: Option<Value>,
}

impl Fault {
    /// A fault of any kind. `input` is what was given, as JSON text.
    pub fn new(
        r#type: &'static str,
        loc: Vec<Place>,
        msg: impl Into<String>,
        input: Box<RawValue>,
    ) -> Self {
        // A number such as 1e400 is good JSON that many readers refuse, and an answer must be
        // readable to the one who sent it.
        let input = match serde_json::from_str::<Value>(input.get()) {
            Ok(_) => input,
            Err(_) => raw(input.get()),
        };
        Self {
            r#type,
            loc,
            msg: msg.into(),
            input,
            ctx: None,
        }
    }

    /// Adds the limit that was broken.
    pub fn with_ctx(mut self, ctx: Value) -> Self {
        self.ctx = Some(ctx);
        self
    }

    /// What kind of fault it is.
    pub fn kind(&self) -> &'static str {
        self.r#type
    }

    /// Where it is.
    pub fn loc(&self) -> &[Place] {
        &self.loc
    }

    /// Path before query before body.
    pub(super) fn rank(&self) -> u8 {
        match self.loc.first() {
            Some(Place::Name(name)) if name == "path" => 0,
            Some(Place::Name(name)) if name == "query" => 1,
            _ => 2,
        }
    }

    pub(super) fn missing(loc: Vec<Place>, input: Box<RawValue>) -> Self {
        Self::new("missing", loc, "Field required", input)
    }

    pub(super) fn given_twice(loc: Vec<Place>, input: Box<RawValue>) -> Self {
        Self::new(
            "multiple_argument_values",
            loc,
            "Got multiple values for argument",
            input,
        )
    }

    pub(super) fn json_invalid(position: usize, error: &str) -> Self {
        let loc = vec!["body".into(), Place::Position(position)];
        Self::new("json_invalid", loc, "JSON decode error", raw(&json!({})))
            .with_ctx(json!({ "error": error }))
    }

    pub(super) fn not_an_object(input: Box<RawValue>) -> Self {
        Self::new(
            "model_attributes_type",
            vec!["body".into()],
            "Input should be a valid dictionary or object to extract fields from",
            input,
        )
    }

    pub(super) fn greater_than(loc: Vec<Place>, limit: i64, input: Box<RawValue>) -> Self {
        let msg = format!("Input should be greater than {limit}");
        Self::new("greater_than", loc, msg, input).with_ctx(json!({ "gt": limit }))
    }

    pub(super) fn greater_than_equal(loc: Vec<Place>, limit: i64, input: Box<RawValue>) -> Self {
        let msg = format!("Input should be greater than or equal to {limit}");
        Self::new("greater_than_equal", loc, msg, input).with_ctx(json!({ "ge": limit }))
    }

    pub(super) fn less_than_equal(loc: Vec<Place>, limit: i64, input: Box<RawValue>) -> Self {
        let msg = format!("Input should be less than or equal to {limit}");
        Self::new("less_than_equal", loc, msg, input).with_ctx(json!({ "le": limit }))
    }

    pub(super) fn string_type(loc: Vec<Place>, input: Box<RawValue>) -> Self {
        Self::new("string_type", loc, "Input should be a valid string", input)
    }

    pub(super) fn string_too_long(loc: Vec<Place>, max: usize, input: Box<RawValue>) -> Self {
        let msg = format!("String should have at most {max} characters");
        Self::new("string_too_long", loc, msg, input).with_ctx(json!({ "max_length": max }))
    }

    pub(super) fn string_nul(loc: Vec<Place>, input: Box<RawValue>) -> Self {
        let msg = "String should not contain the character U+0000";
        Self::new("string_nul", loc, msg, input)
    }
}

/// A value as JSON text. Strings, numbers and lists of them always render.
pub(super) fn raw<T: Serialize + ?Sized>(value: &T) -> Box<RawValue> {
    to_raw_value(value).unwrap_or_else(|_| null())
}

/// The JSON text `null`.
pub(super) fn null() -> Box<RawValue> {
    RawValue::NULL.to_owned()
}
