//! The table of routes: which path and method goes to which service. There is no wildcard, so a
//! route that a service has for itself cannot be reached from outside.

use chassis::extract::decode_segment;
use http::Method;

/// A service behind the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upstream {
    /// Orders.
    Orders,
    /// Payments.
    Payments,
}

impl Upstream {
    pub(crate) const ALL: [Self; 2] = [Self::Orders, Self::Payments];

    /// Its name in health answers and logs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Orders => "orders",
            Self::Payments => "payments",
        }
    }
}

/// One path with the methods it serves. The path is written without its trailing slash and served
/// both ways; `{…}` stands for one segment.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) path: &'static str,
    pub(crate) methods: &'static [Method],
    pub(crate) upstream: Upstream,
}

pub(crate) static ROUTES: &[Route] = &[
    Route {
        path: "/v1/accounts",
        methods: &[Method::POST],
        upstream: Upstream::Payments,
    },
    Route {
        path: "/v1/accounts/deposit",
        methods: &[Method::POST],
        upstream: Upstream::Payments,
    },
    Route {
        path: "/v1/accounts/{user_id}",
        methods: &[Method::GET],
        upstream: Upstream::Payments,
    },
    Route {
        path: "/v1/orders",
        methods: &[Method::GET, Method::POST],
        upstream: Upstream::Orders,
    },
    Route {
        path: "/v1/orders/{order_id}",
        methods: &[Method::GET],
        upstream: Upstream::Orders,
    },
];

impl Route {
    /// The path to ask the service for, put together from the pattern and the decoded segments of
    /// a path that matched it; never a part of the URL as it came. `None` when a segment could
    /// mean something else to another reader of URLs.
    pub(crate) fn upstream_path(&self, path: &str) -> Option<String> {
        let mut built = String::with_capacity(path.len());
        let pairs = self.path.split('/').zip(path.split('/'));
        // Both begin with a slash, so the first pair is two empty segments.
        for (pattern, segment) in pairs.skip(1) {
            built.push('/');
            if pattern.starts_with('{') {
                let value = decode_segment(segment);
                if !is_plain(&value) {
                    return None;
                }
                encode_segment(&value, &mut built);
            } else {
                built.push_str(pattern);
            }
        }
        Some(built)
    }
}

/// Whether a segment is one name and nothing else: no way up, no second segment, nothing that a
/// second decoding would change, no control character, nothing that was not UTF-8.
fn is_plain(value: &str) -> bool {
    !matches!(value, "" | "." | "..")
        && !value.chars().any(|character| {
            character.is_control() || matches!(character, '/' | '\\' | '%' | '\u{fffd}')
        })
}

/// Percent-encodes all but the unreserved characters of RFC 3986.
fn encode_segment(value: &str, built: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            built.push(char::from(byte));
        } else {
            built.push('%');
            built.push(char::from(HEX[usize::from(byte >> 4)]));
            built.push(char::from(HEX[usize::from(byte & 0x0f)]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_built_from_its_pattern_and_never_leads_elsewhere() {
        let order = ROUTES.last().expect("a table");
        let rows = [
            ("/v1/orders/7", Some("/v1/orders/7")),
            ("/v1/orders/7/", Some("/v1/orders/7")),
            ("/v1/orders/%31", Some("/v1/orders/1")),
            ("/v1/orders/-1", Some("/v1/orders/-1")),
            ("/v1/orders/abc", Some("/v1/orders/abc")),
            ("/v1/orders/1.0", Some("/v1/orders/1.0")),
            ("/v1/orders/a%20b", Some("/v1/orders/a%20b")),
            ("/v1/orders/a;b@c", Some("/v1/orders/a%3Bb%40c")),
            ("/v1/orders/%d9%a1", Some("/v1/orders/%D9%A1")),
            ("/v1/orders/..%2f..%2fadmin", None),
            ("/v1/orders/%2e%2e", None),
            ("/v1/orders/..", None),
            ("/v1/orders/.", None),
            ("/v1/orders/%252e", None),
            ("/v1/orders/a%5cb", None),
            ("/v1/orders/%00", None),
            ("/v1/orders/%0d%0ax", None),
            ("/v1/orders/%ff", None),
        ];
        for (path, built) in rows {
            assert_eq!(order.upstream_path(path).as_deref(), built, "{path}");
        }
    }
}
