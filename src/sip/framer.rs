//! Cutting a TCP stream into messages (RFC 3261 §18.3). What the lengths say must be beyond doubt:
//! a stream that is cut at the wrong place lets one user speak for another, so any doubt is fatal.

use bytes::{Buf, Bytes, BytesMut};

use super::lexer::{Lexed, MESSAGE_MAX, head_len};
use super::name::Name;
use super::scan;

/// The most bytes that wait for more: one message, and what one read may bring beyond it.
const BUFFER_MAX: usize = MESSAGE_MAX + READ_MAX;
/// The most bytes a single read should hand to [`Framer::extend`].
const READ_MAX: usize = 65_536;
/// The largest header section, in bytes.
const HEAD_MAX: usize = 32 * 1024;
/// A keep-alive ping (RFC 5626 §4.4.1).
pub(super) const PING: &[u8] = b"\r\n\r\n";

/// What makes a stream unusable. The connection is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// More bytes came than may wait: more than 128 KiB without `next_message` taking any.
    #[error("too many bytes wait to be framed")]
    BufferFull,
    /// The header section does not end within 32 KiB.
    #[error("the header section is too long")]
    HeadTooLong,
    /// The first line is not SIP, so nothing that follows can be trusted.
    #[error("the stream does not carry SIP")]
    NotSip,
    /// No Content-Length.
    #[error("a message has no Content-Length")]
    MissingContentLength,
    /// More than one Content-Length.
    #[error("a message has more than one Content-Length")]
    RepeatedContentLength,
    /// A Content-Length that is no number.
    #[error("a Content-Length is not a number")]
    BadContentLength,
    /// A message larger than 64 KiB.
    #[error("a message is too large")]
    TooLarge,
}

/// The framer of one connection.
#[derive(Debug, Default)]
pub struct Framer {
    buffer: BytesMut,
    /// How many bytes of the buffer are known to hold no end of a header section.
    searched: usize,
    /// Head and whole length of the message being waited for.
    expected: Option<usize>,
    failed: Option<FrameError>,
}

impl Framer {
    /// A framer at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in what was read, at most 64 KiB at a time; take the messages out before more.
    pub fn extend(&mut self, bytes: &[u8]) -> Result<(), FrameError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if self.buffer.len().saturating_add(bytes.len()) > BUFFER_MAX {
            return Err(self.fail(FrameError::BufferFull));
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// The next whole message or keep-alive ping; `None` until more bytes come. A message whose
    /// length is in doubt comes out as its head alone, for the endpoint to answer 400, and
    /// then the error, again and again.
    pub fn next_message(&mut self) -> Option<Result<Bytes, FrameError>> {
        if let Some(error) = self.failed {
            return Some(Err(error));
        }
        if let Some(whole) = self.expected {
            return self.take(whole);
        }
        if let Some(ping) = self.skip_line_ends() {
            return Some(Ok(ping));
        }
        // A line end that was cut in two by reads has its first bytes in what was searched.
        let from = self.searched.saturating_sub(PING.len() - 1);
        let Some(len) = head_len(self.buffer.get(from..)?) else {
            self.searched = self.buffer.len();
            return self.check_unfinished();
        };
        self.searched = 0;
        let head = from + len;
        if head > HEAD_MAX {
            return Some(Err(self.fail(FrameError::HeadTooLong)));
        }
        match body_len(self.buffer.get(..head)?) {
            Ok(body) if head + body > MESSAGE_MAX => Some(Ok(self.break_off(head, FrameError::TooLarge))),
            Ok(body) => self.take(head + body),
            Err(FrameError::NotSip) => Some(Err(self.fail(FrameError::NotSip))),
            Err(error) => Some(Ok(self.break_off(head, error))),
        }
    }

    fn take(&mut self, whole: usize) -> Option<Result<Bytes, FrameError>> {
        if self.buffer.len() < whole {
            self.expected = Some(whole);
            return None;
        }
        self.expected = None;
        Some(Ok(self.buffer.split_to(whole).freeze()))
    }

    /// Line ends between messages are overlooked (RFC 3261 §7.5); two together are a ping.
    fn skip_line_ends(&mut self) -> Option<Bytes> {
        loop {
            if self.buffer.starts_with(PING) {
                self.searched = 0;
                return Some(self.buffer.split_to(PING.len()).freeze());
            }
            // One that may yet become a ping waits; CR LF CR is the same case.
            if !self.buffer.starts_with(b"\r\n") || PING.starts_with(&self.buffer) {
                return None;
            }
            self.buffer.advance(2);
            self.searched = 0;
        }
    }

    fn check_unfinished(&mut self) -> Option<Result<Bytes, FrameError>> {
        if self.buffer.len() > HEAD_MAX {
            return Some(Err(self.fail(FrameError::HeadTooLong)));
        }
        None
    }

    fn break_off(&mut self, head: usize, error: FrameError) -> Bytes {
        let head = self.buffer.split_to(head.min(self.buffer.len())).freeze();
        self.fail(error);
        head
    }

    fn fail(&mut self, error: FrameError) -> FrameError {
        self.failed = Some(error);
        self.buffer = BytesMut::new();
        error
    }
}

/// What the one Content-Length of a header section says.
fn body_len(head: &[u8]) -> Result<usize, FrameError> {
    let (lexed, _) = Lexed::lex(Bytes::copy_from_slice(head));
    if !lexed.start_line().windows(4).any(|four| four.eq_ignore_ascii_case(b"SIP/")) {
        return Err(FrameError::NotSip);
    }
    let mut values = lexed.values(Name::ContentLength);
    let value = values.next().ok_or(FrameError::MissingContentLength)?;
    if values.next().is_some() {
        return Err(FrameError::RepeatedContentLength);
    }
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(FrameError::BadContentLength);
    }
    // What does not fit a number is larger than any limit.
    scan::number::<usize>(value).filter(|len| *len <= MESSAGE_MAX).ok_or(FrameError::TooLarge)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(id: usize, body: &str) -> String {
        format!("OPTIONS sip:a SIP/2.0\r\nVia: x{id}\r\nl : {}\r\n\r\n{body}", body.len())
    }

    fn all(framer: &mut Framer) -> Vec<Result<Bytes, FrameError>> {
        let mut out = Vec::new();
        while let Some(next) = framer.next_message() {
            let last = next.is_err();
            out.push(next);
            if last {
                break;
            }
        }
        out
    }

    fn framed(stream: &[u8]) -> Vec<Result<Bytes, FrameError>> {
        let mut framer = Framer::new();
        framer.extend(stream).expect("within the limit");
        all(&mut framer)
    }

    #[test]
    fn messages_pings_and_stray_line_ends_are_told_apart() {
        let (one, two) = (message(1, "body\r\n\r\n"), message(2, ""));
        let stream = format!("\r\n{one}\r\n\r\n{two}\r\n\r\n\r\n{one}");
        let texts: Vec<String> = framed(stream.as_bytes())
            .into_iter()
            .map(|next| String::from_utf8_lossy(&next.expect("all good")).into_owned())
            .collect();
        assert_eq!(texts, [&*one, "\r\n\r\n", &*two, "\r\n\r\n", &*one]);
    }

    #[test]
    fn a_length_in_doubt_is_fatal_after_its_head_came_out() {
        let head = |length: &str| format!("OPTIONS sip:a SIP/2.0\r\n{length}Via: x\r\n\r\n");
        for (length, error) in [
            ("", FrameError::MissingContentLength),
            ("Content-Length: 5\r\nContent-Length: 5\r\n", FrameError::RepeatedContentLength),
            ("Content-Length: 5\r\nl: 6\r\n", FrameError::RepeatedContentLength),
            ("Content-Length: -5\r\n", FrameError::BadContentLength),
            ("Content-Length: +5\r\n", FrameError::BadContentLength),
            ("Content-Length: 5, 5\r\n", FrameError::BadContentLength),
            ("Content-Length: 0x5\r\n", FrameError::BadContentLength),
            ("Content-Length:\r\n", FrameError::BadContentLength),
            ("Content-Length: 65536\r\n", FrameError::TooLarge),
            ("Content-Length: 99999999999999999999999999\r\n", FrameError::TooLarge),
        ] {
            let head = head(length);
            let stream = format!("{head}{}", message(1, ""));
            assert_eq!(framed(stream.as_bytes()), [Ok(Bytes::from(head)), Err(error)], "{length:?}");
        }
    }

    #[test]
    fn a_stream_that_is_not_sip_is_given_up() {
        assert_eq!(framed(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"), [Err(FrameError::NotSip)]);
    }

    #[test]
    fn limits_hold_on_both_sides() {
        let mut framer = Framer::new();
        framer.extend(&[b'x'; HEAD_MAX]).expect("within the limit");
        assert_eq!(framer.next_message(), None);
        framer.extend(b"x").expect("within the limit");
        assert_eq!(framer.next_message(), Some(Err(FrameError::HeadTooLong)));
        assert_eq!(framer.extend(b"x"), Err(FrameError::HeadTooLong), "it stays failed");

        let mut framer = Framer::new();
        framer.extend(&vec![b'x'; BUFFER_MAX]).expect("within the limit");
        assert_eq!(framer.extend(b"x"), Err(FrameError::BufferFull));

        let empty = message(1, "").len() + 4;
        let largest = message(1, &"b".repeat(MESSAGE_MAX - empty));
        assert_eq!(framed(largest.as_bytes()), [Ok(Bytes::from(largest.clone()))]);
        let larger = message(1, &"b".repeat(MESSAGE_MAX - empty + 1));
        assert_eq!(framed(larger.as_bytes()).last(), Some(&Err(FrameError::TooLarge)));
    }

    proptest! {
        #[test]
        fn however_the_stream_is_cut_the_same_comes_out(
            pieces in prop::collection::vec((0..6usize, ".{0,20}"), 0..8),
            cuts in prop::collection::vec(1..40usize, 1..200),
        ) {
            let stream: String = pieces
                .iter()
                .enumerate()
                .map(|(id, (kind, body))| match kind {
                    0 => "\r\n\r\n".into(),
                    1 => "\r\n".into(),
                    2 if id > 4 => message(id, body).replace("l :", "x :"),
                    _ => message(id, body),
                })
                .collect();
            let whole = framed(stream.as_bytes());
            for cuts in [&cuts[..], &[1]] {
                let (mut framer, mut out, mut rest) = (Framer::new(), Vec::new(), stream.as_bytes());
                for cut in cuts.iter().cycle() {
                    let (now, later) = rest.split_at((*cut).min(rest.len()));
                    if now.is_empty() || framer.extend(now).is_err() {
                        break;
                    }
                    rest = later;
                    out.extend(all(&mut framer));
                }
                prop_assert_eq!(&out, &whole);
            }
        }
    }
}
