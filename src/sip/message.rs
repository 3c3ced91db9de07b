//! A message, parsed once: what the endpoint relies on is checked here and never again.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;

use super::header::{NameAddr, Via, parse_cseq};
use super::lexer::{Fault, Lexed, MESSAGE_MAX, Span};
use super::method::Method;
use super::name::Name;
use super::uri::{Scheme, Uri, UriError};
use super::{Cause, scan};

/// The most Via hops of a message; a request starts with 70 Max-Forwards (RFC 3261 §8.1.1.6).
const HOPS_MAX: usize = 70;

/// Why a message was dropped without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum DropReason {
    /// Larger than 64 KiB.
    TooLarge,
    /// The first line is of no SIP message.
    NotSip,
    /// A malformed request without Via, From, To, Call-ID or CSeq to answer by.
    Unanswerable,
    /// A malformed or refused ACK: ACK has no answer.
    BadAck,
    /// A malformed response.
    BadResponse,
    /// A response to nothing we asked, or with more Vias than ours (RFC 3261 §8.1.3.3).
    StrayResponse,
    /// An ACK that acknowledges nothing.
    StrayAck,
}

impl DropReason {
    /// How many reasons there are.
    pub const COUNT: usize = 7;

    /// All reasons with a name for metrics.
    pub const ALL: [(DropReason, &'static str); DropReason::COUNT] = [
        (DropReason::TooLarge, "too_large"),
        (DropReason::NotSip, "not_sip"),
        (DropReason::Unanswerable, "unanswerable"),
        (DropReason::BadAck, "bad_ack"),
        (DropReason::BadResponse, "bad_response"),
        (DropReason::StrayResponse, "stray_response"),
        (DropReason::StrayAck, "stray_ack"),
    ];
}

/// What bytes turned out to be.
#[derive(Debug)]
pub(super) enum Message {
    Request(Request),
    Response(Response),
    /// A request that cannot be processed but can be answered, by this status and reason.
    Malformed(Lexed, u16, Fault),
}

/// Headers every message has, read.
#[derive(Clone, Debug)]
struct Common {
    branch: Option<Span>,
    from_tag: Option<Span>,
    to_tag: Option<Span>,
    call_id: Span,
    cseq: u32,
    cseq_method: Span,
    body_len: usize,
}

/// A valid request.
#[derive(Clone)]
pub struct Request {
    lexed: Lexed,
    method: Method,
    uri: Uri,
    common: Common,
    sent_by: Box<str>,
    max_forwards: Option<u8>,
}

/// A valid response.
#[derive(Clone, Debug)]
pub struct Response {
    lexed: Lexed,
    status: u16,
    reason: Span,
    common: Common,
}

/// Reads one message: a datagram, or (`stream`) what the framer cut out, where Content-Length
/// is mandatory (RFC 3261 §18.3).
pub(super) fn parse(bytes: Bytes, stream: bool) -> Result<Message, DropReason> {
    if bytes.len() > MESSAGE_MAX {
        return Err(DropReason::TooLarge);
    }
    let (lexed, fault) = Lexed::lex(bytes);
    let line = lexed.start_line();
    if line.get(..4).is_some_and(|start| start.eq_ignore_ascii_case(b"SIP/")) {
        return match (fault, Response::read(lexed, stream)) {
            (None, Some(response)) => Ok(Message::Response(response)),
            _ => Err(DropReason::BadResponse),
        };
    }
    if !line.windows(4).any(|four| four.eq_ignore_ascii_case(b"SIP/")) {
        return Err(DropReason::NotSip);
    }
    let answerable = [Name::Via, Name::From, Name::To, Name::CallId, Name::CSeq];
    if !answerable.iter().all(|name| lexed.value(*name).is_some()) {
        return Err(DropReason::Unanswerable);
    }
    let is_ack = line.starts_with(b"ACK ");
    match fault.map_or_else(|| Request::read(&lexed, stream), |fault| Err((400, fault))) {
        Ok(parts) => Ok(Message::Request(parts.with(lexed))),
        Err(_) if is_ack => Err(DropReason::BadAck),
        Err((status, fault)) => Ok(Message::Malformed(lexed, status, fault)),
    }
}

/// What is read of a request, before it takes the lexed message in.
struct Parts {
    method: Method,
    uri: Uri,
    common: Common,
    sent_by: Box<str>,
    max_forwards: Option<u8>,
}

impl Parts {
    fn with(self, lexed: Lexed) -> Request {
        let Parts { method, uri, common, sent_by, max_forwards } = self;
        Request { lexed, method, uri, common, sent_by, max_forwards }
    }
}

impl Common {
    fn read(lexed: &Lexed, stream: bool) -> Result<(Common, Box<str>), Fault> {
        if let Some(name) = lexed.repeated() {
            return Err(repeated_fault(name));
        }
        let via_text = top_via(lexed).ok_or("Missing Via Header")?;
        let via = Via::parse(via_text)?;
        if lexed.values(Name::Via).flat_map(scan::split_list).count() > HOPS_MAX {
            return Err("Too Many Via Hops");
        }
        let (from, to) = (read_party(lexed, Name::From)?, read_party(lexed, Name::To)?);
        let call_id = lexed.value(Name::CallId).ok_or("Missing Call-ID Header")?;
        if call_id.is_empty() || !call_id.iter().all(u8::is_ascii_graphic) {
            return Err("Bad Call-ID Header");
        }
        let (cseq, cseq_method) = parse_cseq(lexed.value(Name::CSeq).ok_or("Missing CSeq Header")?)?;
        let common = Common {
            branch: via.unique_branch().map(|branch| lexed.span(branch)),
            from_tag: from.map(|tag| lexed.span(tag)),
            to_tag: to.map(|tag| lexed.span(tag)),
            call_id: lexed.span(call_id),
            cseq,
            cseq_method: lexed.span(cseq_method),
            body_len: body_len(lexed, stream)?,
        };
        Ok((common, via.sent_by().into()))
    }
}

/// Checks From or To and gives its tag.
fn read_party(lexed: &Lexed, name: Name) -> Result<Option<&[u8]>, Fault> {
    let (missing, bad) = match name {
        Name::From => ("Missing From Header", "Bad From Header"),
        _ => ("Missing To Header", "Bad To Header"),
    };
    let party = NameAddr::parse(lexed.value(name).ok_or(missing)?, bad)?;
    party.uri().map_err(|_| bad)?;
    Ok(party.tag())
}

fn top_via(lexed: &Lexed) -> Option<&[u8]> {
    scan::split_list(lexed.value(Name::Via)?).next()
}

fn repeated_fault(name: Name) -> Fault {
    match name {
        Name::CallId => "Repeated Call-ID Header",
        Name::ContentLength => "Repeated Content-Length Header",
        Name::ContentType => "Repeated Content-Type Header",
        Name::CSeq => "Repeated CSeq Header",
        Name::From => "Repeated From Header",
        Name::MaxForwards => "Repeated Max-Forwards Header",
        _ => "Repeated To Header",
    }
}

/// How much of what follows the headers is the body (RFC 3261 §18.3, §20.14).
fn body_len(lexed: &Lexed, stream: bool) -> Result<usize, Fault> {
    let there = lexed.rest().len();
    match lexed.value(Name::ContentLength) {
        None if stream => Err("Missing Content-Length Header"),
        None => Ok(there),
        Some(value) => match scan::number::<usize>(value) {
            None => Err("Bad Content-Length Header"),
            Some(len) if len > there => Err("Content-Length Larger Than Message"),
            Some(len) => Ok(len),
        },
    }
}

impl Request {
    /// Reads one valid request as a datagram carries it; `None` for everything else.
    pub fn parse(datagram: Bytes) -> Option<Request> {
        match parse(datagram, false) {
            Ok(Message::Request(request)) => Some(request),
            Ok(Message::Response(_) | Message::Malformed(..)) | Err(_) => None,
        }
    }

    fn read(lexed: &Lexed, stream: bool) -> Result<Parts, (u16, Fault)> {
        let (method, uri, version) =
            split_request_line(lexed.start_line()).ok_or((400, "Bad Request Line"))?;
        if !version.eq_ignore_ascii_case(b"SIP/2.0") {
            return Err((505, "Version Not Supported"));
        }
        let bad = |fault| (400, fault);
        let (common, sent_by) = Common::read(lexed, stream).map_err(bad)?;
        if common.cseq_method.of(lexed.bytes()) != method {
            return Err(bad("CSeq Method Does Not Match"));
        }
        let uri = Uri::parse(uri).map_err(|_| bad("Bad Request-URI"))?;
        // RFC 3261 §19.1.1: no headers in a Request-URI; they would be ours to obey.
        if uri.headers().is_some() {
            return Err(bad("Request-URI With Headers"));
        }
        let max_forwards = match lexed.value(Name::MaxForwards) {
            Some(value) => Some(scan::number(value).ok_or(bad("Bad Max-Forwards Header"))?),
            None => None,
        };
        let method = Method::from_token(method);
        check_addresses(lexed, &method).map_err(bad)?;
        Ok(Parts { method, uri, common, sent_by, max_forwards })
    }

    /// The method.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The Request-URI.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// The first value of a header, by its long or compact name in any case. Bytes that are
    /// not UTF-8 are replaced.
    pub fn header<'a>(&'a self, name: &'a str) -> Option<Cow<'a, str>> {
        self.headers(name).next()
    }

    /// All values of a header in order, each header line being one.
    pub fn headers<'a>(&'a self, name: &'a str) -> impl Iterator<Item = Cow<'a, str>> {
        self.lexed.values_by_text(name.as_bytes()).map(String::from_utf8_lossy)
    }

    /// The body, sharing the message's memory; empty when there is none.
    pub fn body(&self) -> Bytes {
        self.lexed.body(self.common.body_len)
    }

    /// The media type of the body as sent, if it is named.
    pub fn content_type(&self) -> Option<Cow<'_, str>> {
        self.lexed.value(Name::ContentType).map(String::from_utf8_lossy)
    }

    /// The display name of From, unquoted, if it is not empty.
    pub fn from_display_name(&self) -> Option<String> {
        let from = NameAddr::parse(self.lexed.value(Name::From)?, "").ok()?;
        Some(from.display_name()).filter(|name| !name.is_empty())
    }

    /// The URI of From.
    pub fn from_uri(&self) -> Result<Uri, UriError> {
        self.party_uri(Name::From)
    }

    /// The URI of To.
    pub fn to_uri(&self) -> Result<Uri, UriError> {
        self.party_uri(Name::To)
    }

    fn party_uri(&self, name: Name) -> Result<Uri, UriError> {
        let value = self.lexed.value(name).unwrap_or_default();
        NameAddr::parse(value, "").map_err(|_| UriError::Character)?.uri()
    }

    /// The Call-ID.
    pub fn call_id(&self) -> &str {
        text(self.lexed.slice(self.common.call_id))
    }

    /// The CSeq number.
    pub fn cseq(&self) -> u32 {
        self.common.cseq
    }

    /// The cause that Reason headers give (RFC 3326).
    pub fn cause(&self) -> Option<Cause> {
        Cause::from_reason_values(self.lexed.values(Name::Reason))
    }

    pub(super) fn max_forwards(&self) -> Option<u8> {
        self.max_forwards
    }

    pub(super) fn lexed(&self) -> &Lexed {
        &self.lexed
    }

    pub(super) fn tag_of_from(&self) -> Option<&[u8]> {
        self.common.from_tag.map(|tag| self.lexed.slice(tag))
    }

    pub(super) fn tag_of_to(&self) -> Option<&[u8]> {
        self.common.to_tag.map(|tag| self.lexed.slice(tag))
    }

    /// What tells the transaction of `method` that this request belongs to: branch, sent-by and
    /// method, or without a magic cookie what RFC 2543 goes by (RFC 3261 §17.2.3). The To tag
    /// is left out of the latter, as an ACK carries the one that we gave.
    pub(super) fn transaction_id(&self, method: &Method) -> Box<[u8]> {
        let method = method.to_string();
        let cseq = self.common.cseq.to_string();
        let parts: [&[u8]; 6] = match self.common.branch {
            Some(branch) => {
                [self.lexed.slice(branch), self.sent_by.as_bytes(), method.as_bytes(), b"", b"", b""]
            }
            None => [
                top_via(&self.lexed).unwrap_or_default(),
                self.uri.as_str().as_bytes(),
                method.as_bytes(),
                self.tag_of_from().unwrap_or_default(),
                self.lexed.slice(self.common.call_id),
                cseq.as_bytes(),
            ],
        };
        parts.join(&b'\n').into()
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({} {}, Call-ID {})", self.method, self.uri, self.call_id())
    }
}

/// Contact and Record-Route have to be good before a dialog is built on them.
fn check_addresses(lexed: &Lexed, method: &Method) -> Result<(), Fault> {
    const CONTACT: Fault = "Bad Contact Header";
    for value in lexed.values(Name::Contact).filter(|value| *value != b"*") {
        for element in scan::split_list(value) {
            NameAddr::parse(element, CONTACT)?.uri().map_err(|_| CONTACT)?;
        }
    }
    if *method != Method::INVITE {
        return Ok(());
    }
    // RFC 3261 §12.1.1: a dialog-forming request has exactly one Contact.
    let contact = lexed.value(Name::Contact).and_then(|value| scan::split_list(value).next());
    let contact = contact.ok_or("Missing Contact Header")?;
    let uri = NameAddr::parse(contact, CONTACT)?.uri().map_err(|_| CONTACT)?;
    if !matches!(uri.scheme(), Scheme::Sip | Scheme::Sips) {
        return Err("Contact Is No SIP URI");
    }
    const ROUTE: Fault = "Bad Record-Route Header";
    for value in lexed.values(Name::RecordRoute).flat_map(scan::split_list) {
        NameAddr::parse(value, ROUTE)?.uri().map_err(|_| ROUTE)?;
    }
    Ok(())
}

/// Method, Request-URI and version, each set off by one single space (RFC 3261 §7.1).
fn split_request_line(line: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let mut words = line.split(|b| *b == b' ');
    let (method, uri, version) = (words.next()?, words.next()?, words.next()?);
    let one_line = words.next().is_none() && scan::is_token(method) && !uri.is_empty();
    (one_line && version.get(..4)?.eq_ignore_ascii_case(b"SIP/")).then_some((method, uri, version))
}

impl Response {
    fn read(lexed: Lexed, stream: bool) -> Option<Response> {
        let line = lexed.start_line();
        let mut words = line.splitn(3, |b| *b == b' ');
        let version = words.next()?;
        let status = words.next().filter(|code| code.len() == 3).and_then(scan::number::<u16>)?;
        if !version.eq_ignore_ascii_case(b"SIP/2.0") || !(100..700).contains(&status) {
            return None;
        }
        let reason = lexed.span(words.next().unwrap_or_default());
        let (common, _) = Common::read(&lexed, stream).ok()?;
        Some(Response { status, reason, common, lexed })
    }

    /// The status code, 100 to 699.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The reason phrase; may be empty. Bytes that are not UTF-8 are replaced.
    pub fn reason(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.lexed.slice(self.reason))
    }

    /// The body, sharing the message's memory.
    pub fn body(&self) -> Bytes {
        self.lexed.body(self.common.body_len)
    }

    pub(super) fn lexed(&self) -> &Lexed {
        &self.lexed
    }

    pub(super) fn branch(&self) -> Option<&[u8]> {
        self.common.branch.map(|branch| self.lexed.slice(branch))
    }

    pub(super) fn vias(&self) -> usize {
        self.lexed.values(Name::Via).flat_map(scan::split_list).count()
    }

    pub(super) fn tag_of_to(&self) -> Option<&[u8]> {
        self.common.to_tag.map(|tag| self.lexed.slice(tag))
    }

    pub(super) fn cseq_method(&self) -> &[u8] {
        self.lexed.slice(self.common.cseq_method)
    }
}

/// Text of bytes that were checked to be ASCII.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}
