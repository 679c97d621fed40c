//! Tells code, comments and strings of Rust apart, so that a rule about code is not broken by a
//! sentence. Not a parser: it knows just enough to find where each of the three ends.

/// Two texts with the lines of the original: in each, what belongs to the other is blank. The
/// contents of strings are blank in both.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Split {
    pub(crate) code: String,
    pub(crate) comments: String,
}

enum Kind {
    Code,
    Comment,
    Text,
}

/// Splits a Rust file.
pub(crate) fn split(text: &str) -> Split {
    let chars: Vec<char> = text.chars().collect();
    let mut split = Split {
        code: String::with_capacity(text.len()),
        comments: String::new(),
    };
    let mut at = 0;
    while at < chars.len() {
        let (kind, end) = piece(&chars, at);
        for &c in &chars[at..end] {
            let blank = if c == '\n' { '\n' } else { ' ' };
            let (code, comment) = match kind {
                Kind::Code => (c, blank),
                Kind::Comment => (blank, c),
                Kind::Text => (blank, blank),
            };
            split.code.push(code);
            split.comments.push(comment);
        }
        at = end;
    }
    split
}

/// The piece that begins at `at` and where it ends.
fn piece(chars: &[char], at: usize) -> (Kind, usize) {
    let next = chars.get(at + 1).copied();
    match (chars[at], next) {
        ('/', Some('/')) => (Kind::Comment, find(chars, at, |c| c == '\n')),
        ('/', Some('*')) => (Kind::Comment, block_comment(chars, at)),
        ('"', _) => (Kind::Text, quoted(chars, at + 1, '"')),
        ('r', Some('"' | '#')) if starts_word(chars, at) => match raw(chars, at + 1) {
            Some(end) => (Kind::Text, end),
            None => (Kind::Code, at + 1),
        },
        ('\'', Some('\\')) => (Kind::Text, quoted(chars, at + 1, '\'')),
        ('\'', Some(_)) if chars.get(at + 2) == Some(&'\'') => (Kind::Text, at + 3),
        _ => (Kind::Code, at + 1),
    }
}

fn find(chars: &[char], from: usize, end: impl Fn(char) -> bool) -> usize {
    (from..chars.len())
        .find(|&at| end(chars[at]))
        .unwrap_or(chars.len())
}

fn block_comment(chars: &[char], from: usize) -> usize {
    let (mut at, mut depth) = (from, 0_usize);
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at.min(chars.len())
}

/// The end of a string or character with escapes, given where its contents begin.
fn quoted(chars: &[char], from: usize, quote: char) -> usize {
    let mut at = from;
    while at < chars.len() && chars[at] != quote {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

/// The end of a raw string, given where its hashes or its quote begin; `None` for `r#name`.
fn raw(chars: &[char], from: usize) -> Option<usize> {
    let quote = find(chars, from, |c| c != '#');
    if chars.get(quote) != Some(&'"') {
        return None;
    }
    let hashes = quote - from;
    let ends = |at: &usize| {
        chars[*at] == '"' && chars[at + 1..].iter().take_while(|c| **c == '#').count() >= hashes
    };
    let close = (quote + 1..chars.len()).find(ends);
    Some(close.map_or(chars.len(), |at| at + 1 + hashes))
}

/// Whether a word begins here, a `b` or `c` in front of a raw string left aside.
fn starts_word(chars: &[char], at: usize) -> bool {
    let before = |at: usize| at.checked_sub(1).and_then(|at| chars.get(at)).copied();
    match before(at) {
        Some('b' | 'c') => !before(at - 1).is_some_and(is_word),
        other => !other.is_some_and(is_word),
    }
}

/// Whether a character can stand in a name.
pub(crate) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether each line of `code` belongs to something under `#[cfg(test)]`. Takes code without
/// comments and strings: it counts braces.
pub(crate) fn lines_under_test(code: &str) -> Vec<bool> {
    const MARK: &str = "#[cfg(test)]";
    let mut under = vec![false; code.lines().count()];
    let mut from = 0;
    while let Some(start) = code[from..].find(MARK).map(|at| from + at) {
        let end = item_end(code, start + MARK.len());
        let first = code[..start].matches('\n').count();
        let last = code[..end].matches('\n').count();
        for line in under.iter_mut().take(last + 1).skip(first) {
            *line = true;
        }
        from = end;
    }
    under
}

/// The end of the item that begins after `from`: its semicolon, or its closing brace.
fn item_end(code: &str, from: usize) -> usize {
    let mut depth = 0_usize;
    for (at, c) in code[from..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ';' if depth == 0 => return from + at + 1,
            _ => continue,
        }
        if depth == 0 {
            return from + at + 1;
        }
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        split(text).code.trim_end().to_owned()
    }

    #[test]
    fn comments_and_strings_are_not_code() {
        assert_eq!(code("a // b\nc"), "a     \nc");
        assert_eq!(code("a /* b /* c */ d */ e"), "a                   e");
        assert_eq!(code(r#"f("b \" c", d)"#), "f(        , d)");
        assert_eq!(code("f(r#\"b \" c\"#, d)"), "f(          , d)");
        assert_eq!(code("f('\"', '\\'', d)"), "f(   ,     , d)");
    }

    #[test]
    fn lifetimes_and_raw_names_are_code() {
        assert_eq!(code("fn f<'a>(r: &'a str)"), "fn f<'a>(r: &'a str)");
        assert_eq!(code("let r#type = for_r;"), "let r#type = for_r;");
    }

    #[test]
    fn comments_keep_their_lines() {
        let split = split("a\n// b\n\"//\" c // d\n");
        assert_eq!(split.comments, " \n// b\n       // d\n");
    }

    #[test]
    fn what_is_under_cfg_test_ends_with_its_brace_or_semicolon() {
        let code = "a\n#[cfg(test)]\nmod tests {\n fn f() {}\n}\nb\n#[cfg(test)]\nmod x;\nc\n";
        let under = lines_under_test(code);
        let expected = [false, true, true, true, true, false, true, true, false];
        assert_eq!(under, expected);
    }
}
