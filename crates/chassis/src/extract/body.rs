//! The body of a request: read within limits of size and time, then handed on as JSON text.

use std::time::Duration;

use axum::extract::{FromRequest, Request};
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT};
use http_body_util::BodyExt as _;

use super::fault::{Fault, null, raw};
use super::{Faults, Object, json};
use crate::error::ApiError;

/// Largest body that is read, in bytes.
pub const BODY_MAX_BYTES: usize = 64 * 1024;

const LIMITS: Limits = Limits {
    time: Duration::from_secs(10),
    discarded_bytes: 8 * 1024 * 1024,
};

const UNREADABLE: &str = "There was an error parsing the body";

#[derive(Clone, Copy)]
struct Limits {
    /// For the whole body.
    time: Duration,
    /// How much of a body that is too large is read and thrown away, so that a client that sends
    /// first and listens then gets to see the answer.
    discarded_bytes: usize,
}

/// A body that is text. Whether it is good JSON is asked by [`Body::object`].
#[derive(Debug)]
pub struct Body {
    content: Content,
}

#[derive(Debug)]
enum Content {
    Empty,
    Json(String),
    /// Sent as something else than JSON.
    Other(String),
}

impl Body {
    /// The body as a JSON object, or `None` with a fault noted.
    pub fn object(&self, faults: &mut Faults) -> Option<Object<'_>> {
        faults.note(match &self.content {
            Content::Empty => Err(Fault::missing(vec!["body".into()], null())),
            Content::Other(text) => Err(Fault::not_an_object(raw(text.as_str()))),
            Content::Json(text) => match json::parse(text) {
                Err(syntax) => Err(Fault::json_invalid(syntax.position, &syntax.error)),
                Ok(value) => json::members(value)
                    .map(|members| Object::new(value, members))
                    .ok_or_else(|| Fault::not_an_object(value.to_owned())),
            },
        })
    }

    fn of(headers: &HeaderMap, bytes: &[u8]) -> Result<Self, ApiError> {
        let content = if bytes.is_empty() {
            Content::Empty
        } else if !is_json(headers) {
            Content::Other(String::from_utf8_lossy(bytes).into_owned())
        } else {
            let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
            let text = match std::str::from_utf8(bytes) {
                Ok(text) => text.to_owned(),
                // Text in another encoding is a matter of syntax, anything else is not text.
                Err(_) if looks_like_utf16(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                Err(_) => return Err(ApiError::bad_request(UNREADABLE)),
            };
            if json::is_too_deep(&text) {
                return Err(ApiError::bad_request(UNREADABLE));
            }
            Content::Json(text)
        };
        Ok(Self { content })
    }
}

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let bytes = read_body(&parts.headers, body).await?;
        Self::of(&parts.headers, &bytes)
    }
}

/// Reads a body of at most [`BODY_MAX_BYTES`] within ten seconds, never inflating it.
///
/// # Errors
/// 415 when it is compressed, 413 when it is too large, 408 when it is too slow, 400 when it
/// breaks off.
pub async fn read_body(headers: &HeaderMap, body: axum::body::Body) -> Result<Bytes, ApiError> {
    read_within(headers, body, LIMITS).await
}

async fn read_within(
    headers: &HeaderMap,
    body: axum::body::Body,
    limits: Limits,
) -> Result<Bytes, ApiError> {
    let is_encoded = headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"));
    if is_encoded {
        return Err(ApiError::unsupported_media_type().closing());
    }
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok())
        .unwrap_or(0);
    // One who asks first, or who announces more than is thrown away, is told at once.
    if announced > limits.discarded_bytes
        || (announced > BODY_MAX_BYTES && headers.contains_key(EXPECT))
    {
        return Err(ApiError::payload_too_large());
    }
    tokio::time::timeout(limits.time, collect(body, limits.discarded_bytes))
        .await
        .unwrap_or_else(|_| Err(ApiError::request_timeout()))
}

async fn collect(mut body: axum::body::Body, discarded_bytes: usize) -> Result<Bytes, ApiError> {
    let mut kept = BytesMut::new();
    let mut size = 0_usize;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ApiError::bad_request(UNREADABLE).closing())?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        size = size.saturating_add(data.len());
        if size <= BODY_MAX_BYTES {
            kept.extend_from_slice(&data);
        } else if size > discarded_bytes {
            break;
        }
    }
    if size > BODY_MAX_BYTES {
        return Err(ApiError::payload_too_large());
    }
    Ok(kept.freeze())
}

/// As FastAPI: `application/json` and `application/*+json`. Without a type the body is taken for
/// JSON, because nothing else is served here.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return true;
    };
    let value = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
    let essence = value.split(';').next().unwrap_or("").trim();
    essence
        .strip_prefix("application/")
        .is_some_and(|subtype| subtype == "json" || subtype.ends_with("+json"))
}

/// A byte order mark, or a NUL where ASCII has none.
fn looks_like_utf16(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\xff\xfe")
        || bytes.starts_with(b"\xfe\xff")
        || bytes.iter().take(4).any(|byte| *byte == 0)
}

#[cfg(test)]
impl Body {
    pub(super) fn test(content_type: Option<&str>, bytes: &[u8]) -> Result<Self, ApiError> {
        let mut headers = HeaderMap::new();
        if let Some(content_type) = content_type {
            let value = http::HeaderValue::from_str(content_type).expect("a content type");
            headers.insert(CONTENT_TYPE, value);
        }
        Self::of(&headers, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;
    use http::{HeaderName, HeaderValue};

    const SHORT: Limits = Limits {
        time: Duration::from_millis(50),
        discarded_bytes: 1024 * 1024,
    };

    async fn status(headers: &[(HeaderName, &str)], body: axum::body::Body) -> u16 {
        let headers = headers
            .iter()
            .map(|(name, value)| {
                let value = HeaderValue::from_str(value).expect("a header");
                (name.clone(), value)
            })
            .collect();
        match read_within(&headers, body, SHORT).await {
            Ok(_) => 200,
            Err(error) => error.status().as_u16(),
        }
    }

    fn of_size(size: usize) -> axum::body::Body {
        axum::body::Body::from(vec![b' '; size])
    }

    #[tokio::test]
    async fn d6_a_body_over_64_kib_is_413_whatever_it_announces() {
        assert_eq!(status(&[], of_size(BODY_MAX_BYTES)).await, 200);
        assert_eq!(status(&[], of_size(BODY_MAX_BYTES + 1)).await, 413);
        assert_eq!(status(&[], of_size(3 * 1024 * 1024)).await, 413);
        let huge = [(CONTENT_LENGTH, "99999999999")];
        let never = axum::body::Body::from_stream(stream::pending::<std::io::Result<Bytes>>());
        assert_eq!(status(&huge, never).await, 413);
    }

    #[tokio::test]
    async fn m11_one_who_asks_before_a_large_body_is_answered_without_it() {
        let headers = [(CONTENT_LENGTH, "100000"), (EXPECT, "100-continue")];
        let never = axum::body::Body::from_stream(stream::pending::<std::io::Result<Bytes>>());
        assert_eq!(status(&headers, never).await, 413);
    }

    #[tokio::test]
    async fn b14_a_slow_body_is_408() {
        let slow = axum::body::Body::from_stream(stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Some((std::io::Result::Ok(Bytes::from_static(b"1")), ()))
        }));
        assert_eq!(status(&[], slow).await, 408);
    }

    #[tokio::test]
    async fn b13_a_compressed_body_is_415() {
        assert_eq!(
            status(&[(CONTENT_ENCODING, "gzip")], of_size(10)).await,
            415
        );
        assert_eq!(
            status(&[(CONTENT_ENCODING, "Identity")], of_size(10)).await,
            200
        );
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_400() {
        let broken = stream::iter([
            Ok(Bytes::from_static(b"{")),
            Err(std::io::Error::other("gone")),
        ]);
        let body = axum::body::Body::from_stream(broken);
        assert_eq!(status(&[], body).await, 400);
    }
}
