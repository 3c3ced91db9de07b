//! The express path (`AF_XDP`): the packets of settled calls pass by the kernel's UDP stack.
//!
//! Beside its socket, which stays as it is, a leg whose peer is known and whose packets come by this
//! thread's queue of the interface is served by frames of shared memory: receiving costs no system
//! call, sending one for a whole batch, and the kernel touches none of the leg's own structures.
//! Whatever is not so (IPv6, a tunnel, a peer that moves, one that was not heard for some seconds)
//! goes by the socket, as if there were no express path. It is for machines that are given over to
//! calls: it needs `CAP_NET_ADMIN`, `CAP_NET_RAW` and `CAP_BPF`, and passes by the packet filter.

mod frame;
mod program;
mod rings;

use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::path::Path;
use std::sync::Arc;

use super::{Counters, DATAGRAM_MAX, SWEEPS, SocketKey};
use crate::prefetch::prefetch;
use frame::{HEADERS, Route};
use program::Program;
#[cfg(test)]
pub(super) use rings::RECEIVE_FRAMES;
use rings::{FRAME_BYTES, Received, Rings};

/// Polls without a frame of a peer after which it is sent to by the socket again: about five
/// seconds. Its neighbours may have changed, and only the kernel asks for them.
pub(super) const SILENT_POLLS: u32 = 5000;
/// Frames looked at together, so that their memory is waited for once.
const BATCH: usize = 32;
/// Frames whose memory is asked for ahead.
const AHEAD: usize = 4;
const _: () = assert!(HEADERS + DATAGRAM_MAX <= FRAME_BYTES);
/// No frame, in a list of frames.
const NONE: u32 = u32::MAX;

/// A network interface whose packets media threads may take, each by the queue of its number.
#[derive(Debug)]
pub struct Interface {
    name: String,
    index: u32,
    queues: u32,
    program: Program,
}

impl Interface {
    /// Attaches to the interface. It is let go when this is dropped, or the process ends.
    ///
    /// # Errors
    /// When there is no such interface, or what the kernel says (`EPERM` without the capabilities).
    pub fn attach(name: &str) -> io::Result<Self> {
        let c_name =
            std::ffi::CString::new(name).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        // SAFETY: a string that ends in a zero byte.
        let index = unsafe { libc::if_nametoindex(c_name.as_ptr()) };
        if index == 0 {
            return Err(io::Error::last_os_error());
        }
        let queues = queues_of(name);
        Ok(Self { name: name.to_owned(), index, queues, program: Program::attach(index, queues)? })
    }

    /// The interface's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its queues to receive by.
    pub fn queues(&self) -> u32 {
        self.queues
    }
}

/// The receive queues that the system shows for an interface; one where it shows none.
fn queues_of(name: &str) -> u32 {
    let path = Path::new("/sys/class/net").join(name).join("queues");
    let names = std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let receiving = names.filter(|name| name.to_string_lossy().starts_with("rx-")).count();
    u32::try_from(receiving).unwrap_or(1).max(1)
}

/// What is known of a leg's socket.
#[derive(Debug)]
struct Line {
    generation: u32,
    token: u32,
    port: u16,
    /// Whom its socket is connected to; with this its port is claimed.
    peer: Option<SocketAddrV4>,
    /// The number of that claim; of no other, and of no other socket's.
    claim: u32,
    /// The way back of the last frame, while its peer is heard on the express path.
    route: Option<Route>,
    /// The poll in which it was last heard.
    heard: u32,
    /// The sweep that the caller wants it in.
    sweep: Option<usize>,
}

/// A list of frames that wait for their sweep.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    first: u32,
    last: u32,
}

/// A frame that waits.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    next: u32,
    /// The socket it is for, and the claim by which it came.
    index: u32,
    claim: u32,
    /// Where its payload is, and how long it is.
    at: u32,
    len: u16,
}

/// The express path of one media thread.
#[derive(Debug)]
pub(super) struct Express {
    interface: Arc<Interface>,
    queue: u32,
    rings: Rings,
    /// By the sockets' indices.
    lines: Vec<Option<Line>>,
    /// The index plus one of the socket that has a port claimed; zero for none.
    claims: Box<[u32]>,
    sweeps: [Waiting; SWEEPS],
    held: Box<[Held]>,
    polls: u32,
    /// Claims made.
    claimed: u32,
    counters: Counters,
}

impl Express {
    /// The express path of the thread with this number; `None` when the interface has no queue for
    /// it.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn open(interface: Arc<Interface>, thread: u32) -> io::Result<Option<Self>> {
        if thread >= interface.queues {
            return Ok(None);
        }
        let rings = Rings::open(interface.index, thread)?;
        interface.program.give(thread, rings.socket())?;
        Ok(Some(Self {
            interface,
            queue: thread,
            rings,
            lines: Vec::new(),
            claims: vec![0; 1 << 16].into_boxed_slice(),
            sweeps: [Waiting { first: NONE, last: NONE }; SWEEPS],
            held: vec![Held::default(); rings::RECEIVE_FRAMES as usize].into_boxed_slice(),
            polls: 0,
            claimed: 0,
            counters: Counters::default(),
        }))
    }

    pub(super) fn add(&mut self, key: SocketKey, token: u32, port: u16) {
        let index = key.index as usize;
        if self.lines.len() <= index {
            self.lines.resize_with(index + 1, || None);
        }
        let generation = key.generation;
        self.lines[index] =
            Some(Line { generation, token, port, peer: None, claim: 0, route: None, heard: 0, sweep: None });
    }

    pub(super) fn remove(&mut self, key: SocketKey) {
        self.disconnect(key);
        if self.line(key).is_some() {
            self.lines[key.index as usize] = None;
        }
    }

    pub(super) fn connect(&mut self, key: SocketKey, peer: SocketAddr) {
        self.disconnect(key);
        self.claimed = self.claimed.wrapping_add(1);
        let (index, queue, claim) = (key.index, self.queue, self.claimed);
        let SocketAddr::V4(peer) = SocketAddr::new(peer.ip().to_canonical(), peer.port()) else { return };
        let Some(line) = self.line(key) else { return };
        (line.peer, line.claim) = (Some(peer), claim);
        let port = line.port;
        self.claims[usize::from(port)] = index + 1;
        self.interface.program.claim(port, Some(queue));
    }

    pub(super) fn disconnect(&mut self, key: SocketKey) {
        let Some(line) = self.line(key) else { return };
        (line.peer, line.route) = (None, None);
        let port = line.port;
        if self.claims[usize::from(port)] == key.index + 1 {
            self.claims[usize::from(port)] = 0;
            self.interface.program.claim(port, None);
        }
    }

    /// Notes the sweep that the caller wants, and gives the one that the driver is to have it in.
    pub(super) fn sweep(&mut self, key: SocketKey, sweep: Option<usize>) -> Option<usize> {
        let Some(line) = self.line(key) else { return sweep };
        line.sweep = sweep.map(|sweep| sweep % SWEEPS);
        sweep.filter(|_| line.route.is_none())
    }

    /// Takes what has come: delivers it, or keeps it for its sweep. `settled` hears of sockets
    /// that the driver need not sweep any more.
    pub(super) fn poll(
        &mut self,
        deliver: &mut impl FnMut(u32, Option<SocketAddr>, &mut [u8]),
        mut settled: impl FnMut(SocketKey),
    ) {
        self.polls = self.polls.wrapping_add(1);
        let mut batch = [Received::default(); BATCH];
        loop {
            let mut taken = 0;
            while taken < BATCH
                && let Some(received) = self.rings.receive()
            {
                // Its headers; the other processor wrote them.
                if let Some(headers) = self.rings.peek(received.at, HEADERS) {
                    prefetch(headers);
                }
                batch[taken] = received;
                taken += 1;
            }
            if taken == 0 {
                return;
            }
            for &received in &batch[..taken] {
                self.take(received, deliver, &mut settled);
            }
            self.rings.publish_taken();
        }
    }

    /// Delivers a frame, or has it wait for its sweep, or drops it.
    fn take(
        &mut self,
        received: Received,
        deliver: &mut impl FnMut(u32, Option<SocketAddr>, &mut [u8]),
        settled: &mut impl FnMut(SocketKey),
    ) {
        let Self { rings, lines, claims, counters, .. } = self;
        let Some(bytes) = rings.bytes(received.at, received.len) else { return };
        let Some(incoming) = frame::read(bytes) else {
            counters.receive_failed += 1;
            return rings.give_back(received.frame);
        };
        let index = claims[usize::from(incoming.to.port())].wrapping_sub(1);
        let admitted = match lines.get_mut(index as usize).and_then(Option::as_mut) {
            // Of a call that has just ended.
            None => Err(&mut counters.stale),
            Some(line) if line.peer != Some(incoming.from) => Err(&mut counters.foreign),
            Some(_) if incoming.payload.is_empty() => Err(&mut counters.empty),
            Some(_) if incoming.payload.len() > DATAGRAM_MAX => Err(&mut counters.truncated),
            Some(_) if !frame::is_intact(bytes, &incoming) => Err(&mut counters.receive_failed),
            Some(line) => Ok(line),
        };
        let line = match admitted {
            Ok(line) => line,
            Err(count) => {
                *count += 1;
                return rings.give_back(received.frame);
            }
        };
        counters.received += 1;
        counters.express_received += 1;
        line.heard = self.polls;
        let Some(headers) = bytes.first_chunk() else { return };
        if !line.route.as_ref().is_some_and(|route| route.is_back_of(headers)) {
            if line.route.replace(Route::back(headers)).is_none() {
                settled(SocketKey { index, generation: line.generation });
            }
        } else if let Some(sweep) = line.sweep {
            let at = (received.at + incoming.payload.start) as u32;
            let len = incoming.payload.len() as u16;
            let held = Held { next: NONE, index, claim: line.claim, at, len };
            return self.hold(sweep, received.frame, held);
        }
        if let Some(payload) = bytes.get_mut(incoming.payload) {
            deliver(line.token, None, payload);
        }
        rings.give_back(received.frame);
    }

    /// Has a frame wait for its sweep, behind those that came before.
    fn hold(&mut self, sweep: usize, frame: u32, held: Held) {
        self.held[frame as usize] = held;
        let waiting = &mut self.sweeps[sweep];
        match waiting.last {
            NONE => waiting.first = frame,
            last => self.held[last as usize].next = frame,
        }
        waiting.last = frame;
    }

    /// Delivers what waits for a sweep.
    pub(super) fn poll_sweep(
        &mut self,
        sweep: usize,
        deliver: &mut impl FnMut(u32, Option<SocketAddr>, &mut [u8]),
    ) {
        let waiting = &mut self.sweeps[sweep % SWEEPS];
        let (mut frame, mut ahead) = (waiting.first, waiting.first);
        *waiting = Waiting { first: NONE, last: NONE };
        if frame == NONE {
            return;
        }
        for _ in 0..AHEAD {
            ahead = self.prefetch(ahead);
        }
        while let Some(&Held { next, index, claim, at, len }) = self.held.get(frame as usize) {
            ahead = self.prefetch(ahead);
            let line = self.lines.get(index as usize).and_then(Option::as_ref);
            let token = line.filter(|line| line.peer.is_some() && line.claim == claim).map(|line| line.token);
            match (token, self.rings.bytes(at as usize, usize::from(len))) {
                (Some(token), Some(payload)) => deliver(token, None, payload),
                _ => self.counters.stale += 1,
            }
            self.rings.give_back(frame);
            frame = next;
        }
        self.rings.publish_taken();
    }

    /// Asks for the memory of a held frame; gives the next one.
    fn prefetch(&self, frame: u32) -> u32 {
        let Some(held) = self.held.get(frame as usize) else { return NONE };
        if let Some(payload) = self.rings.peek(held.at as usize, usize::from(held.len)) {
            prefetch(payload);
        }
        held.next
    }

    /// Queues a datagram on the express path, if its peer is heard on it.
    pub(super) fn send(&mut self, key: SocketKey, to: SocketAddr, datagram: &[u8]) -> Sent {
        let polls = self.polls;
        let Self { lines, rings, counters, .. } = self;
        let Some(line) = line_of(lines, key) else { return Sent::BySocket };
        let Some(route) = &line.route else { return Sent::BySocket };
        if line.peer.map(SocketAddr::V4) != Some(to) {
            return Sent::BySocket;
        }
        if polls.wrapping_sub(line.heard) > SILENT_POLLS {
            line.route = None;
            return Sent::Lost(line.sweep);
        }
        if datagram.len() <= DATAGRAM_MAX && rings.send(|frame| route.write(frame, datagram)) {
            counters.sent += 1;
            counters.express_sent += 1;
            return Sent::Express;
        }
        Sent::BySocket
    }

    pub(super) fn flush(&mut self) {
        self.rings.flush();
    }

    /// What the express path has done; to be added to what the driver has.
    pub(super) fn counters(&self) -> Counters {
        Counters { syscalls: self.rings.syscalls, express_lost: self.rings.lost(), ..self.counters }
    }

    fn line(&mut self, key: SocketKey) -> Option<&mut Line> {
        line_of(&mut self.lines, key)
    }
}

/// What is known of a socket that is still in.
fn line_of(lines: &mut [Option<Line>], key: SocketKey) -> Option<&mut Line> {
    let line = lines.get_mut(key.index as usize)?.as_mut();
    line.filter(|line| line.generation == key.generation)
}

impl Drop for Express {
    fn drop(&mut self) {
        for line in self.lines.iter().flatten().filter(|line| line.peer.is_some()) {
            self.interface.program.claim(line.port, None);
        }
    }
}

/// What became of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// It is queued.
    Express,
    /// Its socket must send it.
    BySocket,
    /// Its socket must send it, and be in this sweep from now on.
    Lost(Option<usize>),
}
