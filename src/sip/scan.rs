//! Cutting header values into pieces: lists, parameters, quoted strings, tokens (RFC 3261 §25.1).
//! Works on bytes, because display names and reason phrases are not always UTF-8.

/// Whether `b` may stand in a token.
pub(super) const fn is_token_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric()
        || matches!(b, b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~')
}

/// Whether `text` is a token: not empty, and nothing but token bytes.
pub(super) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|b| is_token_byte(*b))
}

/// `text` without white space at its ends. Line ends count, as folding leaves them in a value.
pub(super) fn trim(text: &[u8]) -> &[u8] {
    text.trim_ascii()
}

/// A decimal number and nothing else; `None` when it does not fit.
pub(super) fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Where the first `wanted` is that stands outside quoted strings and angle brackets.
pub(super) fn find_outside(text: &[u8], wanted: u8) -> Option<usize> {
    let (mut quoted, mut escaped, mut angled) = (false, false, false);
    for (at, b) in text.iter().copied().enumerate() {
        if quoted {
            match b {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => quoted = false,
                _ => {}
            }
            continue;
        }
        if b == wanted && !angled {
            return Some(at);
        }
        match b {
            b'"' => quoted = !angled,
            b'<' => angled = true,
            b'>' => angled = false,
            _ => {}
        }
    }
    None
}

/// The pieces of `text` between the `separator`s that stand outside quotes and angle brackets,
/// trimmed. There is always at least one piece.
pub(super) fn split_outside(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let (piece, after) = match find_outside(text, separator) {
            Some(at) => (text.get(..at)?, text.get(at + 1..)),
            None => (text, None),
        };
        rest = after;
        Some(trim(piece))
    })
}

/// The elements of a comma-separated list, empty ones included.
pub(super) fn split_list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    split_outside(value, b',')
}

/// `a;b=c;d` as pairs of name and value, the part before the first `;` included as the first.
pub(super) fn split_params(value: &[u8]) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
    split_outside(value, b';').map(|piece| match find_outside(piece, b'=') {
        Some(at) => {
            let (name, value) = piece.split_at(at);
            (trim(name), value.get(1..).map(trim))
        }
        None => (piece, None),
    })
}

/// What a quoted string says; anything else is given back as it is.
pub(super) fn unquote(text: &[u8]) -> Vec<u8> {
    let Some(inner) = text.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")) else {
        return text.to_vec();
    };
    let mut out = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter().copied();
    while let Some(b) = bytes.next() {
        let said = if b == b'\\' { bytes.next() } else { Some(b) };
        out.extend(said);
    }
    out
}

/// The length of the quoted string at the start of `text`, quotes included; `None` when there is
/// none or it does not end.
pub(super) fn quoted_len(text: &[u8]) -> Option<usize> {
    if text.first() != Some(&b'"') {
        return None;
    }
    let mut escaped = false;
    for (at, b) in text.iter().copied().enumerate().skip(1) {
        match b {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_split_at_commas_outside_quotes_and_brackets() {
        let parts: Vec<_> = split_list(br#""a, \", b" <sip:a,b@c> , d,,"e""#).collect();
        let expected: [&[u8]; 4] = [br#""a, \", b" <sip:a,b@c>"#, b"d", b"", br#""e""#];
        assert_eq!(parts, expected);
    }

    #[test]
    fn parameters_split_into_name_and_value() {
        let parts: Vec<_> = split_params(b"x ; a = \"1;2=3\" ;b; c=").collect();
        let expected: [(&[u8], Option<&[u8]>); 4] =
            [(b"x", None), (b"a", Some(b"\"1;2=3\"")), (b"b", None), (b"c", Some(b""))];
        assert_eq!(parts, expected);
    }

    #[test]
    fn quoted_strings_end_where_they_should() {
        assert_eq!(quoted_len(br#""a\"b" c"#), Some(6));
        assert_eq!(quoted_len(br#""a\""#), None);
        assert_eq!(quoted_len(b"a"), None);
        assert_eq!(unquote(br#""a\"\\b""#), br#"a"\b"#);
        assert_eq!(unquote(b"plain"), b"plain");
    }

    #[test]
    fn numbers_have_no_sign_and_must_fit() {
        assert_eq!(number::<u8>(b"0068"), Some(68));
        for text in ["", "-1", "+1", "256", "1 ", "a"] {
            assert_eq!(number::<u8>(text.as_bytes()), None, "{text:?}");
        }
    }
}
