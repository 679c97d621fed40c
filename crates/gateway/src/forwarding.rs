//! Which headers pass the gateway. Both directions have a list of what may; the rest, known or
//! not, stays outside: hop-by-hop headers, cookies, and identities that only the gateway may give.

use std::net::SocketAddr;

use chassis::http::{TRACEPARENT, X_REQUEST_ID, request_id, traceparent};
use http::header::{
    ACCEPT, ALLOW, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, ETAG, LINK, LOCATION,
    RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

static OF_REQUESTS: [HeaderName; 4] = [CONTENT_TYPE, ACCEPT, AUTHORIZATION, IDEMPOTENCY_KEY];

static OF_RESPONSES: [HeaderName; 9] = [
    ALLOW,
    CACHE_CONTROL,
    CONTENT_TYPE,
    ETAG,
    IDEMPOTENT_REPLAYED,
    LINK,
    LOCATION,
    RETRY_AFTER,
    WWW_AUTHENTICATE,
];

/// The headers to send on: what the client may set, the identity of the request, and where it
/// came from. All values of a name are kept: two keys are for the service to refuse.
pub(crate) fn of_request(headers: &HeaderMap, peer: Option<SocketAddr>) -> HeaderMap {
    let mut sent = pick(headers, &OF_REQUESTS);
    if let Ok(id) = HeaderValue::from_str(&request_id()) {
        sent.insert(X_REQUEST_ID, id);
    }
    if let Some(Ok(trace)) = traceparent().map(|trace| HeaderValue::from_str(&trace)) {
        sent.insert(TRACEPARENT, trace);
    }
    if let Some(Ok(client)) = peer.map(|peer| HeaderValue::from_str(&peer.ip().to_string())) {
        sent.insert(X_FORWARDED_FOR, client);
    }
    sent.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
    sent
}

/// The headers of an answer that a client gets to see.
pub(crate) fn of_response(headers: &HeaderMap) -> HeaderMap {
    pick(headers, &OF_RESPONSES)
}

/// The values of the named headers, without those that `Connection` calls hop-by-hop.
fn pick(headers: &HeaderMap, names: &[HeaderName]) -> HeaderMap {
    let mut picked = HeaderMap::new();
    for name in names.iter().filter(|name| !is_for_this_hop(headers, name)) {
        for value in headers.get_all(name) {
            picked.append(name, value.clone());
        }
    }
    picked
}

fn is_for_this_hop(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .any(|named| {
            named
                .trim_ascii()
                .eq_ignore_ascii_case(name.as_str().as_bytes())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in list {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
            headers.append(name, HeaderValue::from_str(value).expect("a value"));
        }
        headers
    }

    #[test]
    fn only_the_listed_headers_go_on() {
        let given = headers(&[
            ("content-type", "application/json"),
            ("idempotency-key", "a"),
            ("idempotency-key", "b"),
            ("x-auth-user", "7"),
            ("x-forwarded-for", "1.2.3.4"),
            ("cookie", "a=b"),
            ("host", "evil"),
            ("transfer-encoding", "chunked"),
            ("te", "trailers"),
        ]);
        let peer = Some(SocketAddr::from(([10, 0, 0, 1], 5)));
        let sent = of_request(&given, peer);
        assert_eq!(sent["content-type"], "application/json");
        assert_eq!(sent.get_all("idempotency-key").iter().count(), 2);
        assert_eq!(sent["x-forwarded-for"], "10.0.0.1");
        for name in ["x-auth-user", "cookie", "host", "transfer-encoding", "te"] {
            assert!(!sent.contains_key(name), "{name}");
        }
    }

    #[test]
    fn what_connection_names_stays_here() {
        let given = headers(&[
            ("connection", "keep-alive, Idempotency-Key"),
            ("connection", "accept"),
            ("idempotency-key", "a"),
            ("accept", "x"),
            ("content-type", "y"),
        ]);
        let sent = of_request(&given, None);
        assert!(!sent.contains_key("idempotency-key") && !sent.contains_key("accept"));
        assert_eq!(sent["content-type"], "y");
    }

    #[test]
    fn answers_lose_what_is_not_for_clients() {
        let given = headers(&[
            ("content-type", "application/json"),
            ("link", "</v1/orders>; rel=\"next\""),
            ("retry-after", "1"),
            ("server", "secret/1.0"),
            ("set-cookie", "a=b"),
            ("connection", "keep-alive"),
            ("x-internal", "1"),
        ]);
        let seen = of_response(&given);
        assert_eq!(seen.len(), 3);
        assert!(seen.contains_key("link") && seen.contains_key("retry-after"));
    }
}
