//! The lexer: one message's bytes into a start line, header fields and a body, without reading
//! what they say. Knows folding, compact names and blanks before the colon (RFC 3261 §7.3.1).

use bytes::{Bytes, BytesMut};

use super::name::{Name, same_header};
use super::scan;

/// The largest message, in bytes.
pub(super) const MESSAGE_MAX: usize = 65_536;
/// The most header fields of a message.
pub(super) const HEADERS_MAX: usize = 128;
/// The longest header field, folded lines included, in bytes.
pub(super) const HEADER_LINE_MAX: usize = 8 * 1024;
/// The longest start line, in bytes.
pub(super) const START_LINE_MAX: usize = 8 * 1024;

/// A reason phrase that names what is wrong with a message.
pub(super) type Fault = &'static str;

/// A stretch of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32 }
    }

    /// The bytes of `whole` that the span covers.
    pub(super) fn of(self, whole: &[u8]) -> &[u8] {
        whole.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    /// Where `part`, a slice of `whole`, lies in it.
    pub(super) fn within(whole: &[u8], part: &[u8]) -> Self {
        let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
        match start.checked_add(part.len()) {
            Some(end) if end <= whole.len() => Self::new(start, end),
            _ => Self::default(),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Field {
    known: Name,
    name: Span,
    value: Span,
}

/// A message cut into its parts.
#[derive(Clone, Debug)]
pub(super) struct Lexed {
    bytes: Bytes,
    start_line: Span,
    fields: Vec<Field>,
    body: Span,
}

impl Lexed {
    /// Cuts `bytes`. What can be cut is cut even when something is wrong, so that a fault can be
    /// answered; the first fault comes with it.
    pub(super) fn lex(bytes: Bytes) -> (Lexed, Option<Fault>) {
        let bytes = unfold(bytes);
        let mut lexed = Lexed {
            start_line: Span::default(),
            fields: Vec::with_capacity(16),
            body: Span::default(),
            bytes,
        };
        let fault = lexed.cut();
        (lexed, fault)
    }

    fn cut(&mut self) -> Option<Fault> {
        let bytes = self.bytes.clone();
        let mut lines = Lines { bytes: &bytes, at: 0 };
        let mut fault = None;
        let (start, end) = lines.next_line(&mut fault)?;
        self.start_line = Span::new(start, end);
        if end - start > START_LINE_MAX {
            fault = fault.or(Some("Start Line Too Long"));
        }
        loop {
            let Some((start, end)) = lines.next_line(&mut fault) else {
                return fault.or(Some("Header Section Does Not End"));
            };
            if start == end {
                self.body = Span::new(lines.at, bytes.len());
                return fault;
            }
            if self.fields.len() == HEADERS_MAX {
                return fault.or(Some("Too Many Header Fields"));
            }
            let line = bytes.get(start..end).unwrap_or_default();
            if line.len() > HEADER_LINE_MAX {
                fault = fault.or(Some("Header Field Too Long"));
            } else if let Err(bad) = self.push_field(line) {
                fault = fault.or(Some(bad));
            }
        }
    }

    fn push_field(&mut self, line: &[u8]) -> Result<(), Fault> {
        let colon = line.iter().position(|b| *b == b':').ok_or("Header Field Without Colon")?;
        let (name, value) = line.split_at(colon);
        let name = name.trim_ascii_end();
        if !scan::is_token(name) {
            return Err("Bad Header Field Name");
        }
        let value = scan::trim(value.get(1..).unwrap_or_default());
        let span = |part| Span::within(&self.bytes, part);
        self.fields.push(Field { known: Name::from_text(name), name: span(name), value: span(value) });
        Ok(())
    }

    /// All bytes of the message (unfolded).
    pub(super) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The bytes of a span of this message.
    pub(super) fn slice(&self, span: Span) -> &[u8] {
        span.of(&self.bytes)
    }

    /// The span of a part of this message.
    pub(super) fn span(&self, part: &[u8]) -> Span {
        Span::within(&self.bytes, part)
    }

    /// The first line.
    pub(super) fn start_line(&self) -> &[u8] {
        self.slice(self.start_line)
    }

    /// All values of one header, in order.
    pub(super) fn values(&self, name: Name) -> impl Iterator<Item = &[u8]> {
        self.fields.iter().filter(move |field| field.known == name).map(|field| self.slice(field.value))
    }

    /// The first value of a header.
    pub(super) fn value(&self, name: Name) -> Option<&[u8]> {
        self.values(name).next()
    }

    /// All values of the header that `name` names, long or compact, in order.
    pub(super) fn values_by_text<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.fields
            .iter()
            .filter(move |field| same_header(self.slice(field.name), name))
            .map(|field| self.slice(field.value))
    }

    /// The first known header that must stand alone and does not.
    pub(super) fn repeated(&self) -> Option<Name> {
        let mut seen = 0_u32;
        for field in self.fields.iter().filter(|field| field.known.is_single()) {
            let bit = 1 << field.known as u32;
            if seen & bit != 0 {
                return Some(field.known);
            }
            seen |= bit;
        }
        None
    }

    /// All that follows the headers.
    pub(super) fn rest(&self) -> &[u8] {
        self.slice(self.body)
    }

    /// The first `len` bytes after the headers, sharing the message's memory.
    pub(super) fn body(&self, len: usize) -> Bytes {
        let start = self.body.start as usize;
        let end = start.saturating_add(len).min(self.body.end as usize);
        self.bytes.slice(start..end)
    }
}

/// Steps over lines that end with CRLF. A lone CR or LF is a fault, not a line end: a framer
/// and a lexer that disagree on line ends open a door for smuggled messages.
struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Lines<'_> {
    fn next_line(&mut self, fault: &mut Option<Fault>) -> Option<(usize, usize)> {
        let start = self.at;
        let mut rest = self.bytes.get(start..)?;
        let mut end = start;
        while let Some(at) = rest.iter().position(|b| matches!(b, b'\r' | b'\n')) {
            end += at;
            rest = rest.get(at..)?;
            if rest.starts_with(b"\r\n") {
                self.at = end + 2;
                return Some((start, end));
            }
            *fault = fault.or(Some("Bare CR Or LF In Header Section"));
            end += 1;
            rest = rest.get(1..)?;
        }
        self.at = self.bytes.len();
        *fault = fault.or(Some("Header Section Does Not End"));
        (start < self.at).then_some((start, self.at))
    }
}

/// Where the header section ends, its empty line included.
pub(super) fn head_len(bytes: &[u8]) -> Option<usize> {
    line_ends(bytes).find(|at| bytes.get(at + 2..at + 4) == Some(b"\r\n")).map(|at| at + 4)
}

/// Where each CRLF is.
fn line_ends(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let mut from = 0;
    std::iter::from_fn(move || {
        loop {
            let at = from + bytes.get(from..)?.iter().position(|b| *b == b'\n')?;
            from = at + 1;
            if at > 0 && bytes.get(at - 1) == Some(&b'\r') {
                return Some(at - 1);
            }
        }
    })
}

/// Replaces each fold (CRLF and blanks) by blanks of the same length, and only copies when
/// there is one (RFC 3261 §7.3.1: folding reads as a single space). The start line is not folded,
/// and the head's last line end is no fold, though the body may begin with a blank.
fn unfold(bytes: Bytes) -> Bytes {
    let folds: Vec<usize> = line_ends(&bytes)
        .take_while(|at| at.checked_sub(2).and_then(|before| bytes.get(before..*at)) != Some(b"\r\n"))
        .skip(1)
        .filter(|at| matches!(bytes.get(at + 2), Some(b' ' | b'\t')))
        .collect();
    if folds.is_empty() {
        return bytes;
    }
    let mut out = BytesMut::from(&bytes[..]);
    for at in folds {
        if let Some(line_end) = out.get_mut(at..at + 2) {
            line_end.fill(b' ');
        }
    }
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lex(text: &str) -> (Lexed, Option<Fault>) {
        Lexed::lex(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn folding_blanks_and_compact_names_are_seen_through() {
        let (lexed, fault) =
            lex("A b SIP/2.0\r\nTO :\r\n  <sip:a@b> ;\r\n\ttag=1\r\nv:x\r\nEmpty:\r\nk: 100rel\r\n\r\nbody");
        assert_eq!(fault, None);
        assert_eq!(lexed.start_line(), b"A b SIP/2.0");
        assert_eq!(lexed.value(Name::To), Some(&b"<sip:a@b> ;  \ttag=1"[..]));
        assert_eq!(lexed.value(Name::Via), Some(&b"x"[..]));
        assert_eq!(lexed.values_by_text(b"empty").collect::<Vec<_>>(), [b""]);
        assert_eq!(lexed.values_by_text(b"supported").collect::<Vec<_>>(), [b"100rel"]);
        assert_eq!(lexed.rest(), b"body");
    }

    #[test]
    fn a_body_that_begins_with_a_blank_is_no_fold() {
        let (lexed, fault) = lex("A\r\nB: c\r\n\r\n d\r\n e");
        assert_eq!((lexed.rest(), fault), (&b" d\r\n e"[..], None));
        let (lexed, fault) = lex("A\r\n\r\n b");
        assert_eq!((lexed.rest(), fault), (&b" b"[..], None));
    }

    #[test]
    fn faults_are_named_and_the_rest_is_still_cut() {
        for (text, expected) in [
            ("A\r\nVia: x\r\n", "Header Section Does Not End"),
            ("A\r\nVia: x", "Header Section Does Not End"),
            ("A\r\nno colon\r\nVia: x\r\n\r\n", "Header Field Without Colon"),
            ("A\r\n : x\r\nVia: x\r\n\r\n", "Bad Header Field Name"),
            ("A\r\nB\nC: x\r\nVia: x\r\n\r\n", "Bare CR Or LF In Header Section"),
        ] {
            let (lexed, fault) = lex(text);
            assert_eq!(fault, Some(expected), "{text:?}");
            assert_eq!(lexed.value(Name::Via), Some(&b"x"[..]), "{text:?}");
        }
    }

    #[test]
    fn limits_hold_on_both_sides() {
        let with = |count: usize| format!("A\r\n{}\r\n", "X: y\r\n".repeat(count));
        assert_eq!(lex(&with(HEADERS_MAX)).1, None);
        assert_eq!(lex(&with(HEADERS_MAX + 1)).1, Some("Too Many Header Fields"));
        let long = |len: usize| format!("A\r\nX:{}\r\n\r\n", "y".repeat(len - 2));
        assert_eq!(lex(&long(HEADER_LINE_MAX)).1, None);
        assert_eq!(lex(&long(HEADER_LINE_MAX + 1)).1, Some("Header Field Too Long"));
        let start = |len: usize| format!("{}\r\n\r\n", "A".repeat(len));
        assert_eq!(lex(&start(START_LINE_MAX)).1, None);
        assert_eq!(lex(&start(START_LINE_MAX + 1)).1, Some("Start Line Too Long"));
    }
}
