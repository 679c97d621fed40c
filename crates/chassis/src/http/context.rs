//! The identity of the request at work: its id and its trace, in reach of everything it calls.

use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use uuid::Uuid;

use super::{TRACEPARENT, X_REQUEST_ID};

tokio::task_local! {
    static CONTEXT: Arc<Context>;
}

/// Longest request id that is taken from a client.
const REQUEST_ID_MAX: usize = 128;

/// What identifies one request.
#[derive(Debug)]
pub(crate) struct Context {
    request_id: String,
    traceparent: String,
}

impl Context {
    /// An identity made anew.
    pub(super) fn new() -> Self {
        Self::of(&HeaderMap::new())
    }

    /// The identity that the headers give, made anew where they give none of the right form.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        Self {
            request_id: single(headers, &X_REQUEST_ID)
                .filter(|id| is_request_id(id))
                .map_or_else(|| Uuid::now_v7().to_string(), str::to_owned),
            traceparent: single(headers, &TRACEPARENT)
                .filter(|trace| is_traceparent(trace))
                .map_or_else(new_traceparent, str::to_owned),
        }
    }

    pub(super) fn request_id(&self) -> &str {
        &self.request_id
    }

    pub(super) fn traceparent(&self) -> &str {
        &self.traceparent
    }
}

/// Id of the request at work; empty outside of one.
pub fn request_id() -> String {
    CONTEXT
        .try_with(|context| context.request_id.clone())
        .unwrap_or_default()
}

/// W3C trace context of the request at work: the client's where valid, else one made for the
/// request. `None` outside of one.
pub fn traceparent() -> Option<String> {
    CONTEXT.try_with(|context| context.traceparent.clone()).ok()
}

/// The identity itself, to be carried into another task.
pub(crate) fn current() -> Option<Arc<Context>> {
    CONTEXT.try_with(Arc::clone).ok()
}

/// Runs a future as part of the given request, or of none.
pub(crate) async fn within<T>(context: Option<Arc<Context>>, work: impl Future<Output = T>) -> T {
    match context {
        Some(context) => CONTEXT.scope(context, work).await,
        None => work.await,
    }
}

/// The header's value if it is there exactly once and is ASCII.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    match values.next() {
        None => value.to_str().ok(),
        Some(_) => None,
    }
}

fn is_request_id(text: &str) -> bool {
    (1..=REQUEST_ID_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// `<version>-<trace>-<parent>-<flags>` in lower-case hex, neither id all zeros.
fn is_traceparent(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let [version, trace, parent, flags] = parts.as_slice() else {
        return false;
    };
    let is_hex = |part: &str, length: usize| {
        part.len() == length
            && part
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_id =
        |part: &str, length: usize| is_hex(part, length) && part.bytes().any(|byte| byte != b'0');
    is_hex(version, 2)
        && *version != "ff"
        && is_id(trace, 32)
        && is_id(parent, 16)
        && is_hex(flags, 2)
}

/// Sampled, because whether to record is for the collector to decide.
fn new_traceparent() -> String {
    let trace = Uuid::now_v7().simple();
    // The low half of a version 7 id is random but for two bits that are never both zero.
    let parent = Uuid::now_v7().as_u64_pair().1;
    format!("00-{trace}-{parent:016x}-01")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_valid_trace_is_kept_and_an_invalid_one_replaced() {
        let valid = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert!(is_traceparent(valid));
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
        ] {
            assert!(!is_traceparent(bad), "{bad}");
        }
        assert!(is_traceparent(&new_traceparent()));
    }

    #[test]
    fn two_ids_in_one_request_are_no_id() {
        let mut headers = HeaderMap::new();
        headers.append(&X_REQUEST_ID, http::HeaderValue::from_static("a"));
        assert_eq!(Context::of(&headers).request_id(), "a");
        headers.append(&X_REQUEST_ID, http::HeaderValue::from_static("b"));
        assert_eq!(Context::of(&headers).request_id().len(), 36);
    }

    #[tokio::test]
    async fn outside_of_a_request_there_is_no_identity() {
        assert_eq!(request_id(), "");
        assert_eq!(traceparent(), None);
        let context = Arc::new(Context::new());
        let inside = within(Some(Arc::clone(&context)), async { request_id() }).await;
        assert_eq!(inside, context.request_id());
    }
}
