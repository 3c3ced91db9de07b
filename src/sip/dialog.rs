//! A dialog (RFC 3261 §12): what both sides have to remember to send requests within a call.

use std::net::SocketAddr;

use bytes::Bytes;

use super::header::{NameAddr, is_loose};
use super::lexer::Lexed;
use super::message::{Request, Response};
use super::name::Name;
use super::scan;
use super::uri::{Scheme, Uri};
use super::write::{Ask, write_request};

/// The state of a dialog. Everything of the peer's is kept as it was sent.
#[derive(Clone, Debug)]
pub(super) struct Dialog {
    pub(super) call_id: Box<[u8]>,
    pub(super) local_tag: Box<str>,
    pub(super) remote_tag: Box<[u8]>,
    /// Our From in requests, tag included.
    local: Box<[u8]>,
    /// Our To in requests, tag included.
    remote: Box<[u8]>,
    /// Where the peer wants requests: its latest Contact.
    target: Box<[u8]>,
    routes: Box<[Box<[u8]>]>,
    local_cseq: u32,
    remote_cseq: Option<u32>,
    /// Our advertised address.
    pub(super) contact: SocketAddr,
}

impl Dialog {
    /// The dialog an INVITE of the peer forms (§12.1.1).
    pub(super) fn of_invite(invite: &Request, local_tag: &str, contact: SocketAddr) -> Self {
        let lexed = invite.lexed();
        let mut local = lexed.value(Name::To).unwrap_or_default().to_vec();
        local.extend_from_slice(b";tag=");
        local.extend_from_slice(local_tag.as_bytes());
        Self {
            call_id: invite.call_id().as_bytes().into(),
            local_tag: local_tag.into(),
            remote_tag: invite.tag_of_from().unwrap_or_default().into(),
            local: local.into(),
            remote: lexed.value(Name::From).unwrap_or_default().into(),
            target: contact_of(lexed).unwrap_or_default().into(),
            routes: record_routes(lexed).collect(),
            local_cseq: 0,
            remote_cseq: Some(invite.cseq()),
            contact,
        }
    }

    /// The dialog that an INVITE of ours may form, before any answer.
    pub(super) fn to_be(
        call_id: &str,
        local_tag: &str,
        from: &str,
        target: &Uri,
        contact: SocketAddr,
    ) -> Self {
        Self {
            call_id: call_id.as_bytes().into(),
            local_tag: local_tag.into(),
            remote_tag: Box::default(),
            local: format!("{from};tag={local_tag}").into_bytes().into(),
            remote: format!("<{target}>").into_bytes().into(),
            target: target.as_str().as_bytes().into(),
            routes: Box::default(),
            local_cseq: 0,
            remote_cseq: None,
            contact,
        }
    }

    /// Takes in what a 2xx to our INVITE says (§12.1.2).
    pub(super) fn confirm(&mut self, response: &Response) {
        let lexed = response.lexed();
        self.remote_tag = response.tag_of_to().unwrap_or_default().into();
        self.remote = lexed.value(Name::To).unwrap_or_default().into();
        let mut routes: Vec<_> = record_routes(lexed).collect();
        routes.reverse();
        self.routes = routes.into();
        self.refresh_target(lexed);
    }

    /// Whether a request that carries our tag is of this dialog.
    pub(super) fn matches(&self, request: &Request) -> bool {
        *self.call_id == *request.call_id().as_bytes()
            && *self.remote_tag == *request.tag_of_from().unwrap_or_default()
    }

    /// Takes the CSeq number of a request of the peer; false when it is out of order (§12.2.2).
    pub(super) fn take_cseq(&mut self, cseq: u32) -> bool {
        let in_order = self.remote_cseq.is_none_or(|last| cseq > last);
        if in_order {
            self.remote_cseq = Some(cseq);
        }
        in_order
    }

    /// Takes the Contact of a target refresh: of a re-INVITE or the 2xx to one (§12.2).
    pub(super) fn refresh_target(&mut self, lexed: &Lexed) {
        if let Some(contact) = contact_of(lexed) {
            self.target = contact.into();
        }
    }

    /// The CSeq number of the next request of ours.
    pub(super) fn next_cseq(&mut self) -> u32 {
        self.local_cseq = self.local_cseq.wrapping_add(1);
        self.local_cseq
    }

    /// The CSeq number of the latest request of ours.
    pub(super) fn local_cseq(&self) -> u32 {
        self.local_cseq
    }

    /// Writes a request within the dialog, along its route set (§12.2.1.1).
    pub(super) fn write(
        &self,
        method: &str,
        cseq: u32,
        via: &str,
        lines: &[u8],
        body: &[u8],
        agent: &str,
    ) -> Bytes {
        // A first hop without `lr` is an RFC 2543 strict router: it wants itself in the
        // Request-URI and the target at the end of the route.
        let strict = self.routes.split_first().and_then(|(first, rest)| {
            let uri = NameAddr::parse(first, "").ok()?.uri_text();
            (!is_loose(uri)).then(|| {
                let target = [b"<", &*self.target, b">"].concat().into();
                (uri, rest.iter().cloned().chain([target]).collect::<Vec<Box<[u8]>>>())
            })
        });
        let (uri, routes) = match &strict {
            Some((uri, routes)) => (*uri, routes.as_slice()),
            None => (&*self.target, &*self.routes),
        };
        let (from, to, call_id) = (&*self.local, &*self.remote, &*self.call_id);
        write_request(Ask { method, uri, via, routes, from, to, call_id, cseq, lines, body }, agent)
    }
}

fn record_routes(lexed: &Lexed) -> impl Iterator<Item = Box<[u8]>> {
    lexed
        .values(Name::RecordRoute)
        .flat_map(scan::split_list)
        .filter(|route| !route.is_empty())
        .map(Box::from)
}

/// The URI of the first Contact, when it is one that requests can be sent to.
pub(super) fn contact_of(lexed: &Lexed) -> Option<&[u8]> {
    let value = scan::split_list(lexed.value(Name::Contact)?).next()?;
    let uri = NameAddr::parse(value, "").ok()?.uri_text();
    matches!(Uri::parse(uri).ok()?.scheme(), Scheme::Sip | Scheme::Sips).then_some(uri)
}
