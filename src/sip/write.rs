//! Writing messages: responses that echo what must be echoed verbatim, and our own requests.

use std::io::Write as _;
use std::net::SocketAddr;

use bytes::Bytes;

use super::header::{NameAddr, Via};
use super::lexer::Lexed;
use super::name::Name;
use super::scan;

/// Bytes to start a message's buffer with; a typical one fits.
const TYPICAL_LEN: usize = 1024;
/// The longest reason phrase of ours, in bytes.
const REASON_MAX: usize = 200;

/// The usual reason phrase of a status.
pub(super) fn phrase(status: u16) -> &'static str {
    match status {
        100 => "Trying",
        180 => "Ringing",
        183 => "Session Progress",
        200 => "OK",
        202 => "Accepted",
        302 => "Moved Temporarily",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        410 => "Gone",
        415 => "Unsupported Media Type",
        416 => "Unsupported URI Scheme",
        420 => "Bad Extension",
        480 => "Temporarily Unavailable",
        481 => "Call/Transaction Does Not Exist",
        482 => "Loop Detected",
        483 => "Too Many Hops",
        486 => "Busy Here",
        487 => "Request Terminated",
        488 => "Not Acceptable Here",
        491 => "Request Pending",
        500 => "Server Internal Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "Version Not Supported",
        513 => "Message Too Large",
        603 => "Decline",
        _ => match status / 100 {
            1 => "Progress",
            2 => "OK",
            3 => "Redirection",
            4 => "Request Failure",
            5 => "Server Failure",
            _ => "Global Failure",
        },
    }
}

/// What a response says beyond what it echoes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reply<'a> {
    pub(super) status: u16,
    /// Empty for the usual phrase.
    pub(super) reason: &'a str,
    /// Our tag, put on To where it has none.
    pub(super) to_tag: &'a str,
    /// Whether Record-Route is echoed: for what forms a dialog (RFC 3261 §12.1.1).
    pub(super) record_route: bool,
    /// Ready header lines, each with its CRLF.
    pub(super) lines: &'a [u8],
    pub(super) body: &'a [u8],
}

/// Writes a response to `request`, which came from `source` (RFC 3261 §8.2.6.2).
pub(super) fn write_response(request: &Lexed, source: SocketAddr, server: &str, reply: Reply<'_>) -> Bytes {
    let mut out = Vec::with_capacity(TYPICAL_LEN + reply.body.len());
    out.extend_from_slice(format!("SIP/2.0 {} ", reply.status).as_bytes());
    let reason = if reply.reason.is_empty() { phrase(reply.status) } else { reply.reason };
    push_clean(&mut out, reason, REASON_MAX);
    out.extend_from_slice(b"\r\n");
    for (at, value) in request.values(Name::Via).enumerate() {
        out.extend_from_slice(b"Via: ");
        if at == 0 {
            write_top_via(&mut out, value, source);
        } else {
            out.extend_from_slice(value);
        }
        out.extend_from_slice(b"\r\n");
    }
    if reply.record_route {
        for value in request.values(Name::RecordRoute) {
            push_line(&mut out, b"Record-Route", value);
        }
    }
    push_line(&mut out, b"From", request.value(Name::From).unwrap_or_default());
    out.extend_from_slice(b"To: ");
    write_to(&mut out, request.value(Name::To).unwrap_or_default(), reply);
    out.extend_from_slice(b"\r\n");
    push_line(&mut out, b"Call-ID", request.value(Name::CallId).unwrap_or_default());
    push_line(&mut out, b"CSeq", request.value(Name::CSeq).unwrap_or_default());
    push_line(&mut out, b"Server", server.as_bytes());
    out.extend_from_slice(reply.lines);
    push_body(&mut out, reply.body);
    out.into()
}

fn write_top_via(out: &mut Vec<u8>, value: &[u8], source: SocketAddr) {
    let top_len = scan::find_outside(value, b',').unwrap_or(value.len());
    let (top, rest) = value.split_at(top_len);
    match Via::parse(scan::trim(top)) {
        Ok(via) => via.write_answered(out, source),
        Err(_) => out.extend_from_slice(top),
    }
    out.extend_from_slice(rest);
}

fn write_to(out: &mut Vec<u8>, to: &[u8], reply: Reply<'_>) {
    out.extend_from_slice(to);
    let has_tag = NameAddr::parse(to, "").is_ok_and(|to| to.tag().is_some());
    if reply.status > 100 && !reply.to_tag.is_empty() && !has_tag {
        out.extend_from_slice(b";tag=");
        out.extend_from_slice(reply.to_tag.as_bytes());
    }
}

/// Appends `name: value` and a line end.
pub(super) fn push_line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Appends a header from outside the module: no line end can be smuggled in.
pub(super) fn push_header(out: &mut Vec<u8>, name: &str, value: &str) {
    push_clean(out, name, usize::MAX);
    out.extend_from_slice(b": ");
    push_clean(out, value, usize::MAX);
    out.extend_from_slice(b"\r\n");
}

fn push_clean(out: &mut Vec<u8>, text: &str, max: usize) {
    out.extend(text.bytes().filter(|b| !matches!(b, b'\r' | b'\n' | 0)).take(max));
}

fn push_body(out: &mut Vec<u8>, body: &[u8]) {
    out.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
    out.extend_from_slice(body);
}

/// A request of ours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask<'a> {
    pub(super) method: &'a str,
    pub(super) uri: &'a [u8],
    /// The whole Via value.
    pub(super) via: &'a str,
    /// Route values, one a line.
    pub(super) routes: &'a [Box<[u8]>],
    pub(super) from: &'a [u8],
    pub(super) to: &'a [u8],
    pub(super) call_id: &'a [u8],
    pub(super) cseq: u32,
    /// Ready header lines, each with its CRLF.
    pub(super) lines: &'a [u8],
    pub(super) body: &'a [u8],
}

/// Writes a request (RFC 3261 §8.1.1). Max-Forwards is 70.
pub(super) fn write_request(ask: Ask<'_>, user_agent: &str) -> Bytes {
    let mut out = Vec::with_capacity(TYPICAL_LEN + ask.body.len());
    out.extend_from_slice(ask.method.as_bytes());
    out.push(b' ');
    out.extend_from_slice(ask.uri);
    out.extend_from_slice(b" SIP/2.0\r\n");
    push_line(&mut out, b"Via", ask.via.as_bytes());
    out.extend_from_slice(b"Max-Forwards: 70\r\n");
    for route in ask.routes {
        push_line(&mut out, b"Route", route);
    }
    push_line(&mut out, b"From", ask.from);
    push_line(&mut out, b"To", ask.to);
    push_line(&mut out, b"Call-ID", ask.call_id);
    // Writing to a Vec cannot fail.
    let _ = write!(out, "CSeq: {} {}\r\n", ask.cseq, ask.method);
    push_line(&mut out, b"User-Agent", user_agent.as_bytes());
    out.extend_from_slice(ask.lines);
    push_body(&mut out, ask.body);
    out.into()
}

/// Writes the ACK of a non-2xx response (RFC 3261 §17.1.1.3) or the CANCEL (§9.1) of our own
/// request: same Request-URI, top Via, From, Call-ID, CSeq number and Route; `to` is the
/// response's To for an ACK, the request's for a CANCEL.
pub(super) fn write_companion(request: &Bytes, method: &str, to: Option<&[u8]>, lines: &[u8]) -> Bytes {
    let (lexed, _) = Lexed::lex(request.clone());
    let uri = lexed.start_line().split(|b| *b == b' ').nth(1).unwrap_or_default();
    let number = lexed.value(Name::CSeq).unwrap_or_default();
    let number = number.split(|b| *b == b' ').next().unwrap_or_default();
    let mut out = Vec::with_capacity(TYPICAL_LEN / 2);
    out.extend_from_slice(method.as_bytes());
    out.push(b' ');
    out.extend_from_slice(uri);
    out.extend_from_slice(b" SIP/2.0\r\n");
    push_line(&mut out, b"Via", lexed.value(Name::Via).unwrap_or_default());
    out.extend_from_slice(b"Max-Forwards: 70\r\n");
    for route in lexed.values(Name::Route) {
        push_line(&mut out, b"Route", route);
    }
    push_line(&mut out, b"From", lexed.value(Name::From).unwrap_or_default());
    push_line(&mut out, b"To", to.or(lexed.value(Name::To)).unwrap_or_default());
    push_line(&mut out, b"Call-ID", lexed.value(Name::CallId).unwrap_or_default());
    out.extend_from_slice(b"CSeq: ");
    out.extend_from_slice(number);
    out.push(b' ');
    out.extend_from_slice(method.as_bytes());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(lines);
    push_body(&mut out, b"");
    out.into()
}
