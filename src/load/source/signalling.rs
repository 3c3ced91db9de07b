//! The signalling of the load source: INVITE, ACK and BYE of each call, their retransmissions, and
//! answers to whatever the server asks.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use socket2::SockRef;

use super::call::{Call, Retransmit, Room, State};
use super::media::Sender;
use super::meter::Meter;
use super::wires::Wires;
use crate::load::ua::{Dialog, Line, Message, Signature, response};
use crate::time::{Duration, Instant};

/// How long a final answer to an INVITE is waited for (RFC 3261 timer B).
const INVITE_TIMEOUT: Duration = Duration::from_secs(32);
/// How long after a provisional answer the final one is waited for.
const RING_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the answer to a BYE is waited for.
const BYE_TIMEOUT: Duration = Duration::from_secs(4);
/// Most messages read from one socket at a time.
const READ_LIMIT: usize = 512;
/// The longest SIP message read.
const MESSAGE_MAX: usize = 8192;
/// The kernel's buffer for SIP: the 200s of a whole burst wait in it.
const RECEIVE_BUFFER: usize = 4 << 20;

/// The SIP sockets and what is common to all messages.
#[derive(Debug)]
pub struct Signalling {
    signature: Signature,
    sockets: Vec<(UdpSocket, SocketAddr)>,
    /// Calls answered so far.
    pub answered: u32,
    /// Calls that were not, by final status.
    pub failed: BTreeMap<String, u32>,
    /// Calls ended by the server.
    pub ended_early: u32,
    /// BYEs without an answer.
    pub bye_unanswered: u32,
}

/// What signalling changes besides its own.
#[derive(Debug)]
pub struct Board<'a> {
    /// All calls.
    pub calls: &'a mut [Call],
    /// All rooms.
    pub rooms: &'a mut [Room],
    /// What is counted.
    pub meter: &'a mut Meter,
    /// Where answered calls send from.
    pub sender: &'a mut Sender,
    /// Where their sockets are.
    pub wires: &'a mut Wires,
}

impl Signalling {
    /// Opens `sockets` SIP sockets on `ip`.
    ///
    /// # Errors
    /// When the system gives no socket on that address.
    pub fn open(signature: Signature, ip: IpAddr, sockets: u16) -> io::Result<Signalling> {
        let open = |_| {
            let socket = UdpSocket::bind((ip, 0))?;
            socket.set_nonblocking(true)?;
            // A smaller buffer than asked for is what an unprivileged process gets; it is enough.
            let _ = SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER);
            let address = socket.local_addr()?;
            Ok((socket, address))
        };
        let sockets = (0..sockets.max(1)).map(open).collect::<io::Result<Vec<_>>>()?;
        let (failed, answered, ended_early, bye_unanswered) = Default::default();
        Ok(Signalling { signature, sockets, answered, failed, ended_early, bye_unanswered })
    }

    /// How many SIP sockets there are.
    pub fn sockets(&self) -> u16 {
        self.sockets.len() as u16
    }

    /// Dials for call `index`.
    pub fn invite(&self, now: Instant, index: u32, call: &mut Call, room: &Room) {
        call.state = State::Inviting(Retransmit::new(now));
        call.invited = now;
        self.send(call, room, self.signature.invite(self.line(index, call, room), call.rtp_port));
    }

    /// Hangs call `index` up, or cancels it when it was not answered.
    pub fn hang_up(&self, now: Instant, index: u32, call: &mut Call, room: &mut Room) {
        let line = self.line(index, call, room);
        match call.state {
            State::Talking => {
                self.send(call, room, self.signature.bye(line, &call.dialog));
                call.state = State::HangingUp(Retransmit::new(now));
                room.talking = room.talking.saturating_sub(1);
            }
            State::Inviting(_) | State::Proceeding { .. } => {
                self.send(call, room, self.signature.cancel(line));
                call.state = State::Over;
            }
            State::Waiting => call.state = State::Over,
            State::HangingUp(_) | State::Over => {}
        }
    }

    /// Reads and handles what has come.
    pub fn receive(&mut self, now: Instant, board: &mut Board<'_>) {
        let mut buffer = [0; MESSAGE_MAX];
        for socket in 0..self.sockets.len() {
            for _ in 0..READ_LIMIT {
                let Ok((length, from)) = self.sockets[socket].0.recv_from(&mut buffer) else { break };
                if let Some(message) = Message::parse(&buffer[..length]) {
                    self.handle(now, socket, from, &message, board);
                }
            }
        }
    }

    /// Handles one message.
    fn handle(
        &mut self,
        now: Instant,
        socket: usize,
        from: SocketAddr,
        message: &Message<'_>,
        board: &mut Board<'_>,
    ) {
        let known = self.signature.call_of(message).filter(|index| (*index as usize) < board.calls.len());
        if let Some(status) = message.status() {
            let (Some(index), Some(method)) = (known, message.sequence_method()) else { return };
            match method {
                "INVITE" => self.handle_invite_response(now, index, status, message, board),
                "BYE" if status >= 200 => close(index, board),
                _ => {}
            }
        } else if let Some(method) = message.method().filter(|method| *method != "ACK") {
            let (status, reason) = match (method, known) {
                ("OPTIONS", _) => (200, "OK"),
                ("BYE", Some(_)) => (200, "OK"),
                ("INVITE", Some(_)) => (488, "Not Acceptable Here"),
                (_, None) => (481, "Call/Transaction Does Not Exist"),
                _ => (501, "Not Implemented"),
            };
            let _ = self.sockets[socket].0.send_to(&response(message, status, reason), from);
            if let ("BYE", Some(index)) = (method, known) {
                self.handle_bye(index, board);
            }
        }
    }

    /// The server ended a call.
    fn handle_bye(&mut self, index: u32, board: &mut Board<'_>) {
        if let Some(call) = board.calls.get(index as usize).filter(|call| call.is_talking()) {
            self.ended_early += 1;
            if let Some(room) = board.rooms.get_mut(call.room as usize) {
                room.talking = room.talking.saturating_sub(1);
            }
        }
        close(index, board);
    }

    /// An answer to our INVITE.
    fn handle_invite_response(
        &mut self,
        now: Instant,
        index: u32,
        status: u16,
        message: &Message<'_>,
        board: &mut Board<'_>,
    ) {
        let call = &mut board.calls[index as usize];
        let Some(room) = board.rooms.get_mut(call.room as usize) else { return };
        let pending = matches!(call.state, State::Inviting(_) | State::Proceeding { .. });
        match status {
            100..=199 => {
                if matches!(call.state, State::Inviting(_)) {
                    call.state = State::Proceeding { since: call.invited };
                }
            }
            200..=299 => {
                if pending {
                    call.dialog = Dialog::from_answer(message, &room.target.uri);
                }
                // A repeated 2xx means that our ACK was lost (RFC 3261 §13.2.2.4).
                self.send(call, room, self.signature.ack(self.line(index, call, room), &call.dialog));
                if pending {
                    self.establish(now, index, message.media_address(), board);
                }
            }
            _ => {
                let to = message.value("To", "t").unwrap_or_default();
                self.send(call, room, self.signature.ack_refusal(self.line(index, call, room), to));
                if pending {
                    *self.failed.entry(status.to_string()).or_default() += 1;
                    close(index, board);
                }
            }
        }
    }

    /// The call is answered: its sound begins.
    fn establish(&mut self, now: Instant, index: u32, peer: Option<SocketAddr>, board: &mut Board<'_>) {
        let call = &mut board.calls[index as usize];
        let Some(room) = board.rooms.get_mut(call.room as usize) else { return };
        call.state = State::Talking;
        room.talking += 1;
        let connected = peer.is_some_and(|peer| board.wires.connect(index, peer).is_ok());
        if !connected {
            *self.failed.entry("no media".to_owned()).or_default() += 1;
            return self.hang_up(now, index, call, room);
        }
        board.meter.setup.record(now.since(call.invited));
        self.answered += 1;
        call.peer = peer;
        call.answered = Some(now);
        board.sender.begin(index, call);
    }

    /// Sends again what was not answered, and gives up on what never is.
    pub fn handle_timers(&mut self, now: Instant, board: &mut Board<'_>) {
        for index in 0..board.calls.len() as u32 {
            let call = &mut board.calls[index as usize];
            let Some(room) = board.rooms.get(call.room as usize) else { continue };
            match call.state {
                State::Inviting(timer) if now.since(timer.since) > INVITE_TIMEOUT => {
                    self.give_up(index, board)
                }
                State::Proceeding { since } if now.since(since) > RING_TIMEOUT => self.give_up(index, board),
                State::HangingUp(timer) if now.since(timer.since) > BYE_TIMEOUT => {
                    self.bye_unanswered += 1;
                    close(index, board);
                }
                State::Inviting(timer) if now >= timer.next => {
                    call.state = State::Inviting(timer.again(now));
                    self.send(call, room, self.signature.invite(self.line(index, call, room), call.rtp_port));
                }
                State::HangingUp(timer) if now >= timer.next => {
                    call.state = State::HangingUp(timer.again(now));
                    self.send(call, room, self.signature.bye(self.line(index, call, room), &call.dialog));
                }
                _ => {}
            }
        }
    }

    /// Nobody answered in time.
    fn give_up(&mut self, index: u32, board: &mut Board<'_>) {
        let call = &board.calls[index as usize];
        if let Some(room) = board.rooms.get(call.room as usize) {
            self.send(call, room, self.signature.cancel(self.line(index, call, room)));
        }
        *self.failed.entry("timeout".to_owned()).or_default() += 1;
        close(index, board);
    }

    /// A call's own part in its messages.
    fn line<'a>(&self, index: u32, call: &Call, room: &'a Room) -> Line<'a> {
        Line { call: index, uri: &room.target.uri, sip: self.sockets[self.socket_of(call)].1 }
    }

    /// Sends a request to the call's room. What the network loses is sent again by the timers.
    fn send(&self, call: &Call, room: &Room, message: Vec<u8>) {
        let _ = self.sockets[self.socket_of(call)].0.send_to(&message, room.target.address);
    }

    /// The index of the call's SIP socket.
    fn socket_of(&self, call: &Call) -> usize {
        usize::from(call.sip_socket) % self.sockets.len()
    }
}

/// A call is over: its socket is closed.
fn close(index: u32, board: &mut Board<'_>) {
    let Some(call) = board.calls.get_mut(index as usize) else { return };
    call.state = State::Over;
    board.wires.remove(index);
}
