//! Percent-decoding of URL parts. What does not decode to UTF-8 becomes the replacement
//! character, which no reader of values accepts.

/// Decodes one segment of a URL's path, where `+` is a plus. What is not UTF-8 becomes U+FFFD.
pub fn decode_segment(text: &str) -> String {
    decode(text, false)
}

/// Decodes a name or value of a query, where `+` is a space.
pub(super) fn decode_query(text: &str) -> String {
    decode(text, true)
}

fn decode(text: &str, plus_is_space: bool) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        bytes.push(match first {
            b'%' => match after {
                [high, low, after @ ..] => match (hex(*high), hex(*low)) {
                    (Some(high), Some(low)) => {
                        rest = after;
                        high << 4 | low
                    }
                    _ => b'%',
                },
                _ => b'%',
            },
            b'+' if plus_is_space => b' ',
            other => other,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_and_queries_decode_as_browsers_encode_them() {
        assert_eq!(decode_segment("%31+%2F%d1%85"), "1+/\u{445}");
        assert_eq!(decode_query("a+b%2B"), "a b+");
        assert_eq!(decode_segment("100%"), "100%");
        assert_eq!(decode_segment("%4"), "%4");
        assert_eq!(decode_segment("%zz"), "%zz");
        assert_eq!(decode_segment("%ff"), "\u{fffd}");
    }
}
