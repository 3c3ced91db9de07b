//! A phone: one SIP user agent with one call at a time over UDP. Its text is its own and so are its
//! timers (RFC 3261 §17.1), so that it cannot share a mistake with the code under test.

use std::net::SocketAddr;
use std::time::Duration;

use confab::time::Instant;

use super::message::{Text, sdp};

const T1: Duration = Duration::from_millis(500);
const T2: Duration = Duration::from_secs(4);
/// 64·T1: when a request is given up.
const PATIENCE: Duration = Duration::from_secs(32);

/// How far the phone's call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// No call yet.
    Idle,
    /// INVITE sent.
    Calling,
    /// 2xx came.
    InCall,
    /// Over, by this final status of the INVITE; 200 when it was answered and hung up.
    Over(u16),
    /// The INVITE was never answered.
    Lost,
}

/// A request of the phone that waits for its final answer.
#[derive(Clone, Debug)]
struct Pending {
    method: &'static str,
    cseq: u32,
    text: String,
    again_at: Option<Instant>,
    interval: Duration,
    give_up_at: Instant,
}

/// The phone.
#[derive(Clone, Debug)]
pub struct Phone {
    pub address: SocketAddr,
    pub name: String,
    /// From header's URI; the phone's own by default.
    pub from: String,
    pub stage: Stage,
    /// Every status that came, with the method it answers.
    pub heard: Vec<(u16, String)>,
    /// Final answers and requests, whole.
    pub got: Vec<Text>,
    /// The last session description that came.
    pub description: String,
    /// What the phone puts into the ACK of a 2xx that makes an offer; empty sends none.
    pub late_answer: String,
    /// Whether 2xx are acknowledged.
    pub acknowledges: bool,
    /// Whether requests are answered.
    pub answers: bool,
    /// The Reason header of the BYE that came.
    pub bye_reason: Option<String>,
    uri: String,
    call_id: String,
    tag: String,
    remote_tag: String,
    remote_target: String,
    offered: bool,
    cancel_wanted: bool,
    bye_wanted: bool,
    has_provisional: bool,
    cseq: u32,
    invite_cseq: u32,
    branch: u64,
    pending: Vec<Pending>,
    out: Vec<String>,
    /// The answer to the last request of the bridge, for its retransmissions.
    answered: Option<(String, String)>,
}

impl Phone {
    /// A phone at this address. `serial` makes its identifiers unique.
    pub fn new(address: SocketAddr, serial: u64) -> Phone {
        let name = format!("phone{serial}");
        Phone {
            address,
            from: format!("sip:{name}@{address}"),
            stage: Stage::Idle,
            heard: Vec::new(),
            got: Vec::new(),
            description: String::new(),
            late_answer: String::new(),
            acknowledges: true,
            answers: true,
            bye_reason: None,
            uri: String::new(),
            call_id: format!("{serial}@{}", address.ip()),
            tag: format!("t{serial}"),
            remote_tag: String::new(),
            remote_target: String::new(),
            offered: true,
            cancel_wanted: false,
            bye_wanted: false,
            has_provisional: false,
            cseq: 1,
            invite_cseq: 1,
            branch: serial << 20,
            pending: Vec::new(),
            out: Vec::new(),
            answered: None,
            name,
        }
    }

    /// The phone's usual offer: µ-law, A-law and key presses.
    pub fn offer(&self) -> String {
        sdp(
            &self.address.ip().to_string(),
            4000 + self.address.port() % 1000,
            "0 8 101",
            &["rtpmap:101 telephone-event/8000"],
        )
    }

    /// Calls `uri` with the usual offer.
    pub fn dial(&mut self, now: Instant, uri: &str) {
        let offer = self.offer();
        self.dial_with(now, uri, &offer, "");
    }

    /// Calls `uri` with this body and these extra header lines.
    pub fn dial_with(&mut self, now: Instant, uri: &str, body: &str, extra: &str) {
        self.uri = uri.to_owned();
        self.stage = Stage::Calling;
        self.offered = !body.is_empty();
        self.send_invite(now, body, extra);
    }

    /// Offers new media within the call.
    pub fn reinvite(&mut self, now: Instant, body: &str) {
        if self.stage == Stage::InCall && !self.is_inviting() && !self.bye_wanted {
            self.cseq += 1;
            self.offered = !body.is_empty();
            self.send_invite(now, body, "");
        }
    }

    /// Gives the call up before it is answered; hangs up if it was.
    pub fn cancel(&mut self, now: Instant) {
        match self.stage {
            Stage::Calling => {
                self.cancel_wanted = true;
                self.send_cancel(now);
            }
            Stage::InCall => self.hang_up(now),
            _ => {}
        }
    }

    /// Hangs up.
    pub fn hang_up(&mut self, now: Instant) {
        if self.stage != Stage::InCall {
            return;
        }
        self.bye_wanted = true;
        if !self.is_inviting() {
            self.send_bye(now);
        }
    }

    /// Sends a request within the call that is no INVITE.
    pub fn request(&mut self, now: Instant, method: &'static str, extra: &str, body: &str) {
        self.cseq += 1;
        let text = self.text(method, self.cseq, &self.remote_target.clone(), extra, body, None);
        self.send(now, method, self.cseq, text);
    }

    /// Sends a request outside any call.
    pub fn ask(&mut self, now: Instant, method: &'static str, uri: &str, extra: &str) {
        self.uri = uri.to_owned();
        let text = self.text(method, self.cseq, uri, extra, "", None);
        self.send(now, method, self.cseq, text);
    }

    /// The next message to send.
    pub fn poll(&mut self) -> Option<String> {
        if self.out.is_empty() { None } else { Some(self.out.remove(0)) }
    }

    /// When to call [`Phone::expire`].
    pub fn next_timeout(&self) -> Option<Instant> {
        self.pending
            .iter()
            .map(|pending| pending.again_at.map_or(pending.give_up_at, |at| at.min(pending.give_up_at)))
            .min()
    }

    /// Sends again what was not answered, or gives it up.
    pub fn expire(&mut self, now: Instant) {
        for pending in &mut self.pending {
            if pending.give_up_at > now && pending.again_at.is_some_and(|at| at <= now) {
                self.out.push(pending.text.clone());
                let doubled = pending.interval * 2;
                pending.interval = if pending.method == "INVITE" { doubled } else { doubled.min(T2) };
                pending.again_at = Some(now + pending.interval);
            }
        }
        let (lost, waiting) = self.pending.drain(..).partition(|pending: &Pending| pending.give_up_at <= now);
        self.pending = waiting;
        for pending in lost as Vec<Pending> {
            self.give_up(now, &pending);
        }
    }

    fn give_up(&mut self, now: Instant, lost: &Pending) {
        match (lost.method, self.stage) {
            ("BYE", _) => self.stage = Stage::Over(200),
            // An answer to a re-INVITE that never comes: RFC 3261 §14.1 has the phone hang up.
            ("INVITE", Stage::InCall) => self.send_bye(now),
            ("INVITE", _) => self.stage = Stage::Lost,
            _ => {}
        }
    }

    /// Takes a message of the bridge.
    pub fn receive(&mut self, now: Instant, bytes: &[u8]) {
        let text = Text::read(bytes);
        match text.status() {
            Some(status) => self.receive_answer(now, status, &text),
            None => self.receive_request(&text),
        }
    }

    fn receive_answer(&mut self, now: Instant, status: u16, text: &Text) {
        let (cseq, method) = text.cseq();
        if status >= 200 && method == "INVITE" {
            self.acknowledge(status, text, cseq);
        }
        let Some(place) =
            self.pending.iter().position(|pending| pending.cseq == cseq && pending.method == method)
        else {
            return;
        };
        self.heard.push((status, method.to_owned()));
        if status < 200 {
            self.receive_provisional(now, place);
            return;
        }
        self.pending.remove(place);
        self.got.push(text.clone());
        match method {
            "INVITE" => self.receive_invite_answer(now, status, text),
            "BYE" => {
                // Anything else would leave a call that this phone believes to be over.
                assert!(matches!(status, 200 | 481), "{}: BYE was answered {status}", self.name);
                self.stage = Stage::Over(200);
            }
            // RFC 3261 §12.2.1.2: the peer has forgotten the call.
            _ if matches!(status, 408 | 481) && method != "CANCEL" => self.forget_call(),
            _ => {}
        }
    }

    fn forget_call(&mut self) {
        if self.stage == Stage::InCall {
            self.stage = Stage::Over(200);
        }
    }

    fn receive_provisional(&mut self, now: Instant, place: usize) {
        let pending = &mut self.pending[place];
        if pending.method == "INVITE" {
            // Timers A and B stop; the phone rings for as long as it takes.
            pending.again_at = None;
            pending.give_up_at = now + PATIENCE * 6;
            self.has_provisional = true;
            if self.cancel_wanted && self.stage == Stage::Calling {
                self.send_cancel(now);
            }
        }
    }

    fn receive_invite_answer(&mut self, now: Instant, status: u16, text: &Text) {
        if status >= 300 {
            match self.stage {
                Stage::Calling => self.stage = Stage::Over(status),
                _ if matches!(status, 408 | 481) => self.forget_call(),
                _ if self.bye_wanted => self.send_bye(now),
                _ => {}
            }
            return;
        }
        if !text.body.is_empty() {
            self.description.clone_from(&text.body);
        }
        if matches!(self.stage, Stage::Calling | Stage::Lost) {
            self.stage = Stage::InCall;
        }
        if self.cancel_wanted || self.bye_wanted {
            self.send_bye(now);
        }
    }

    /// ACK: its own transaction for a 2xx, part of the INVITE's for a refusal (RFC 3261 §17.1.1.3).
    fn acknowledge(&mut self, status: u16, text: &Text, cseq: u32) {
        if status < 300 {
            text.tag("To").clone_into(&mut self.remote_tag);
            let contact = text.header("Contact");
            let uri = contact.trim_start_matches('<').split('>').next().unwrap_or_default();
            uri.clone_into(&mut self.remote_target);
            if !self.acknowledges {
                return;
            }
            let body = if self.offered { String::new() } else { self.late_answer.clone() };
            let ack = self.text("ACK", cseq, &self.remote_target.clone(), "", &body, None);
            self.out.push(ack);
            return;
        }
        let tag = std::mem::replace(&mut self.remote_tag, text.tag("To").to_owned());
        let uri = if self.stage == Stage::InCall { self.remote_target.clone() } else { self.uri.clone() };
        let ack = self.text("ACK", cseq, &uri, "", "", Some(text.branch()));
        self.out.push(ack);
        self.remote_tag = tag;
    }

    fn receive_request(&mut self, text: &Text) {
        if text.method() == "ACK" || !self.answers {
            return;
        }
        if let Some((branch, answer)) = &self.answered
            && branch == text.branch()
        {
            self.out.push(answer.clone());
            return;
        }
        self.got.push(text.clone());
        let known = text.tag("To") == self.tag && text.header("Call-ID") == self.call_id;
        let status = match (known, text.method()) {
            (false, _) => 481,
            (true, "BYE") => {
                self.bye_reason = Some(text.header("Reason").to_owned());
                self.pending.retain(|pending| pending.method == "BYE");
                if !self.pending.iter().any(|pending| pending.method == "BYE") {
                    self.stage = Stage::Over(200);
                }
                200
            }
            (true, _) => 501,
        };
        let answer = text.answer(status, &self.tag, &self.own_uri(), "");
        self.answered = Some((text.branch().to_owned(), answer.clone()));
        self.out.push(answer);
    }

    fn is_inviting(&self) -> bool {
        self.pending.iter().any(|pending| pending.method == "INVITE")
    }

    fn send_invite(&mut self, now: Instant, body: &str, extra: &str) {
        self.invite_cseq = self.cseq;
        self.has_provisional = false;
        let uri = if self.stage == Stage::InCall { self.remote_target.clone() } else { self.uri.clone() };
        let text = self.text("INVITE", self.cseq, &uri, extra, body, None);
        self.send(now, "INVITE", self.cseq, text);
    }

    /// CANCEL, once the INVITE has a provisional answer (RFC 3261 §9.1).
    fn send_cancel(&mut self, now: Instant) {
        let sent = self.pending.iter().any(|pending| pending.method == "CANCEL");
        let Some(invite) = self.pending.iter().find(|pending| pending.method == "INVITE") else { return };
        if sent || !self.has_provisional {
            return;
        }
        let branch = Text::read(invite.text.as_bytes()).branch().to_owned();
        let text = self.text("CANCEL", self.invite_cseq, &self.uri.clone(), "", "", Some(&branch));
        self.send(now, "CANCEL", self.invite_cseq, text);
    }

    fn send_bye(&mut self, now: Instant) {
        // Nothing but retransmissions follows a BYE (RFC 3261 §15.1.1).
        self.bye_wanted = true;
        let sent = self.pending.iter().any(|pending| pending.method == "BYE");
        if !sent && self.stage == Stage::InCall {
            self.cseq += 1;
            let text = self.text("BYE", self.cseq, &self.remote_target.clone(), "", "", None);
            self.send(now, "BYE", self.cseq, text);
        }
    }

    fn send(&mut self, now: Instant, method: &'static str, cseq: u32, text: String) {
        self.out.push(text.clone());
        self.pending.push(Pending {
            method,
            cseq,
            text,
            again_at: Some(now + T1),
            interval: T1,
            give_up_at: now + PATIENCE,
        });
    }

    fn own_uri(&self) -> String {
        format!("sip:{}@{}", self.name, self.address)
    }

    fn text(
        &mut self,
        method: &str,
        cseq: u32,
        uri: &str,
        extra: &str,
        body: &str,
        branch: Option<&str>,
    ) -> String {
        self.branch += 1;
        let branch = branch.map_or_else(|| format!("z9hG4bK{:x}", self.branch), str::to_owned);
        let to_tag =
            if self.remote_tag.is_empty() { String::new() } else { format!(";tag={}", self.remote_tag) };
        let content = if body.is_empty() || extra.contains("Content-Type") {
            ""
        } else {
            "Content-Type: application/sdp\r\n"
        };
        format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {address};branch={branch};rport\r\nMax-Forwards: 70\r\n\
             From: \"{name}\" <{from}>;tag={tag}\r\nTo: <{to}>{to_tag}\r\nCall-ID: {call_id}\r\n\
             CSeq: {cseq} {method}\r\nContact: <{contact}>\r\n{extra}{content}Content-Length: {length}\r\n\r\n{body}",
            address = self.address,
            name = self.name,
            from = self.from,
            tag = self.tag,
            to = self.uri,
            call_id = self.call_id,
            contact = self.own_uri(),
            length = body.len(),
        )
    }
}
