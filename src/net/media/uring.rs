//! The driver for Linux 6.1 and later: io_uring.
//!
//! Every socket has one receive armed for good (multishot), which takes a buffer of a shared ring
//! for each datagram; the completions are collected when the thread polls, not when they happen
//! (`DEFER_TASKRUN`), so a packet never wakes the thread. Sends are queued as entries that point
//! into an arena and handed over by the thousand; a send runs inside of that call or fails, so the
//! arena is free when the call returns, and only failures leave a completion.
//!
//! A receive asks for the sender until its socket is connected and what was queued before is gone:
//! that may be a third party's. Then it changes to the cheaper form without, or, where the caller
//! sweeps, to none at all ([`sweep`]).

mod buffers;
mod sweep;

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use io_uring::squeue::Flags;
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue, types};
use slab::Slab;

use super::pace::Pace;
use super::pages::Pages;
use super::socket::{NAME_BYTES, Name, Socket, count_receive_error, count_send_error};
use super::{Counters, DATAGRAM_MAX, SWEEPS, SocketKey};
use buffers::Buffers;

/// Entries that are handed to the kernel at once, at most.
const SUBMISSIONS: u32 = 4096;
/// Completions that wait for the thread, at most; the kernel keeps more aside.
const COMPLETIONS: u32 = 8192;
/// Bytes of queued datagrams: [`SUBMISSIONS`] of G.711 with room to spare.
const ARENA_BYTES: usize = 1024 * 1024;
/// Where a datagram may start in the arena, in bytes: a cache line.
const ARENA_STEP: usize = 64;
/// Calls into the kernel in one poll. It runs some twenty receives a call.
const ROUNDS_MAX: usize = 1024;
/// Calls into the kernel to hand over one queue, when it takes it by parts.
const SUBMIT_TRIES: usize = 64;
/// Sockets that may be closing beside the capacity.
const CLOSING_MAX: usize = 1024;
/// Polls that a closing driver waits for the ends of its receives.
const CLOSE_TRIES: usize = 16;

/// What a completion is of: bits 32 to 39 of its user data. Below is the socket's index, above the
/// place of a swept receive.
const KIND: u64 = 0xFF << 32;
const RECEIVE: u64 = 1 << 32;
const RECEIVE_NAMED: u64 = 2 << 32;
const SWEPT: u64 = 3 << 32;
const SEND: u64 = 4 << 32;
const CANCEL: u64 = 5 << 32;

/// How a socket receives now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receive {
    /// Not at all: the queue was full. The next poll arms it.
    Idle,
    /// Armed, with the sender.
    Named,
    /// Armed, without the sender.
    Plain,
    /// When it is swept.
    Swept,
}

/// A socket and the state of its receive.
#[derive(Debug)]
struct Entry {
    socket: Socket,
    receive: Receive,
    /// Its armed receive was told to end; what comes then depends on what it is to be.
    ending: bool,
    /// Removed by the caller; freed when its receive has ended.
    closing: bool,
    /// The sweep it is to be in, once that can be.
    sweep: Option<usize>,
    pace: Pace,
}

impl Entry {
    /// What completions of its armed receive are marked with.
    fn mark(&self) -> u64 {
        if self.receive == Receive::Plain { RECEIVE } else { RECEIVE_NAMED }
    }

    /// Whether a receive is with the kernel or queued for it.
    fn is_armed(&self) -> bool {
        matches!(self.receive, Receive::Named | Receive::Plain)
    }
}

/// UDP sockets under io_uring.
pub(super) struct Driver {
    // Dropped first: the kernel lets go of the memory below.
    ring: IoUring,
    buffers: Buffers,
    arena: Pages,
    arena_used: usize,
    /// Who is in which sweep.
    sweeps: Vec<Vec<u32>>,
    /// The datagrams of one part of a sweep.
    swept: Pages,
    /// Whom the sweep asks.
    asked: Vec<u32>,
    /// Whom it asks for another after that.
    again: Vec<u32>,
    /// The form of every receive that asks for the sender: room for a name, the datagram after it.
    receive: Box<libc::msghdr>,
    entries: Slab<Entry>,
    live: usize,
    capacity: usize,
    /// Sockets, and those that still close, at most.
    places: usize,
    generation: u32,
    /// Sends queued since the last hand-over.
    queued: u64,
    /// Some receive could not be queued; the next poll tries again.
    arm_again: bool,
    counters: Counters,
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("io_uring").field("sockets", &self.live).field("counters", &self.counters).finish()
    }
}

impl Driver {
    pub(super) fn open(capacity: usize) -> io::Result<Self> {
        let ring: IoUring = IoUring::builder()
            .setup_clamp()
            .setup_cqsize(COMPLETIONS)
            .setup_submit_all()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .build(SUBMISSIONS)?;
        let files = |count: usize| {
            let count = u32::try_from(count).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
            ring.submitter().register_files_sparse(count)
        };
        // The table may not be larger than the limit of open files.
        let mut places = capacity.saturating_add(CLOSING_MAX);
        if files(places).is_err() {
            places = capacity;
            files(places)?;
        }
        let buffers = Buffers::open(&ring.submitter())?;
        // SAFETY: every field of a msghdr may be zero: no name, no data, no control.
        let mut receive: Box<libc::msghdr> = Box::new(unsafe { std::mem::zeroed() });
        receive.msg_namelen = NAME_BYTES as libc::socklen_t;
        Ok(Self {
            ring,
            buffers,
            arena: Pages::new(ARENA_BYTES)?,
            arena_used: 0,
            sweeps: vec![Vec::new(); SWEEPS],
            swept: sweep::memory()?,
            asked: Vec::with_capacity(sweep::PART),
            again: Vec::with_capacity(sweep::PART),
            receive,
            entries: Slab::new(),
            live: 0,
            capacity,
            places,
            generation: 0,
            queued: 0,
            arm_again: false,
            counters: Counters::default(),
        })
    }

    pub(super) fn add(&mut self, udp: UdpSocket, token: u32) -> io::Result<SocketKey> {
        if self.live >= self.capacity {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        self.generation = self.generation.wrapping_add(1);
        let socket = Socket::new(udp, token, self.generation)?;
        let entry = self.entries.vacant_entry();
        let index = entry.key() as u32;
        if entry.key() >= self.places {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        self.ring.submitter().register_files_update(index, &[socket.udp.as_raw_fd()])?;
        let (receive, pace) = (Receive::Idle, Pace::new(index));
        entry.insert(Entry { socket, receive, ending: false, closing: false, sweep: None, pace });
        self.live += 1;
        self.ended(index);
        Ok(SocketKey { index, generation: self.generation })
    }

    pub(super) fn remove(&mut self, key: SocketKey) {
        let Some(entry) = self.entry(key) else { return };
        entry.closing = true;
        self.live -= 1;
        self.end(key.index);
    }

    pub(super) fn take(&mut self, key: SocketKey) -> io::Result<UdpSocket> {
        let socket = self.entry(key).ok_or(io::ErrorKind::NotFound)?.socket.udp.try_clone();
        self.remove(key);
        // The end of its receive reaches the kernel now: what comes next is another's.
        self.enter(EnterFlags::empty());
        socket
    }

    pub(super) fn connect(&mut self, key: SocketKey, peer: SocketAddr) -> io::Result<()> {
        if self.entry(key).ok_or(io::ErrorKind::NotFound)?.socket.is_connected_to(peer) {
            return Ok(());
        }
        // From one peer to another by way of nobody, when anybody may slip in.
        self.name_senders(key)?;
        let connected = self.entry(key).ok_or(io::ErrorKind::NotFound)?.socket.connect(peer);
        self.ended(key.index);
        connected
    }

    pub(super) fn disconnect(&mut self, key: SocketKey) -> io::Result<()> {
        self.name_senders(key)?;
        let disconnected = self.entry(key).ok_or(io::ErrorKind::NotFound)?.socket.disconnect();
        self.ended(key.index);
        disconnected
    }

    /// Makes sure that nothing more is received without the sender.
    fn name_senders(&mut self, key: SocketKey) -> io::Result<()> {
        let entry = self.entry(key).ok_or(io::ErrorKind::NotFound)?;
        if matches!(entry.receive, Receive::Plain | Receive::Swept) {
            self.end(key.index);
            self.enter(EnterFlags::empty());
        }
        Ok(())
    }

    pub(super) fn poll(&mut self, deliver: &mut impl FnMut(u32, Option<SocketAddr>, &mut [u8])) {
        if self.arm_again {
            self.arm_again = false;
            for index in 0..self.entries.capacity() as u32 {
                self.ended(index);
            }
        }
        for _ in 0..ROUNDS_MAX {
            self.enter(EnterFlags::GETEVENTS);
            self.complete(deliver);
            let submissions = self.ring.submission();
            // Re-armed receives may have something at once; others may wait for the next call.
            if submissions.is_empty() && !submissions.taskrun() && !submissions.cq_overflow() {
                return;
            }
        }
        self.counters.poll_limited += 1;
    }

    pub(super) fn send(&mut self, key: SocketKey, to: SocketAddr, datagram: &[u8]) {
        let Some(entry) = self.entry(key) else { return };
        let name = (entry.socket.peer != Some(to)).then(|| entry.socket.name(to));
        if datagram.len() > DATAGRAM_MAX {
            self.counters.send_failed += 1;
            return;
        }
        let Some(at) = self.reserve(datagram.len() + size_of::<Name>() + ARENA_STEP) else {
            self.counters.send_full += 1;
            return;
        };
        if let Some(place) = self.arena.slice_mut(at, datagram.len()) {
            place.copy_from_slice(datagram);
        }
        self.arena_used = at + datagram.len().next_multiple_of(ARENA_STEP);
        // SAFETY: `reserve` made room for the datagram at `at`.
        let start = unsafe { self.arena.as_ptr().add(at) };
        let mut send = opcode::Send::new(types::Fixed(key.index), start, datagram.len() as u32)
            .flags(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
        if let Some(name) = name {
            // SAFETY: `reserve` made room for a name after the datagram, and a cache line is
            // aligned for it.
            let place = unsafe { self.arena.as_ptr().add(self.arena_used).cast::<Name>() };
            // SAFETY: as above; the kernel does not look before the hand-over.
            unsafe { place.write(name) };
            self.arena_used += ARENA_STEP;
            // SAFETY: just written, and stays in place until the hand-over.
            send = send.dest_addr(unsafe { &*place }.as_ptr()).dest_addr_len(name.len());
        }
        if self.push(&send.build().flags(Flags::SKIP_SUCCESS).user_data(SEND)) {
            self.queued += 1;
        } else {
            self.counters.send_full += 1;
        }
    }

    pub(super) fn flush(&mut self) {
        if !self.ring.submission().is_empty() {
            self.enter(EnterFlags::empty());
        }
    }

    pub(super) fn len(&self) -> usize {
        self.live
    }

    pub(super) fn counters(&self) -> Counters {
        self.counters
    }

    /// Where `len` bytes of the arena are free, handing over the queue when it is full.
    fn reserve(&mut self, len: usize) -> Option<usize> {
        if self.arena_used + len > ARENA_BYTES || self.ring.submission().is_full() {
            self.flush();
        }
        (self.arena_used + len <= ARENA_BYTES).then_some(self.arena_used)
    }

    /// Goes on with a socket that has no receive with the kernel: closes it, or lets it receive in
    /// the form that fits now. Without effect on others.
    fn ended(&mut self, index: u32) {
        let Some(entry) = self.entries.get_mut(index as usize) else { return };
        if entry.receive != Receive::Idle {
            // An end that found no place in the queue.
            if entry.closing && !entry.ending {
                self.end(index);
            }
            return;
        }
        entry.ending = false;
        if entry.closing {
            return self.free(index);
        }
        let is_quiet = entry.socket.peer.is_some() && entry.socket.is_drained();
        match entry.sweep {
            Some(sweep) if is_quiet => self.begin_sweeping(index, sweep),
            _ => self.arm(index, if is_quiet { Receive::Plain } else { Receive::Named }),
        }
    }

    /// Arms the receive of a socket.
    fn arm(&mut self, index: u32, receive: Receive) {
        let file = types::Fixed(index);
        let (form, mark) = match receive {
            Receive::Plain => {
                (opcode::RecvMulti::new(file, buffers::GROUP).flags(libc::MSG_TRUNC).build(), RECEIVE)
            }
            _ => {
                let named = opcode::RecvMsgMulti::new(file, &raw const *self.receive, buffers::GROUP);
                (named.build(), RECEIVE_NAMED)
            }
        };
        let is_queued = self.push(&form.user_data(mark | u64::from(index)));
        if let Some(entry) = self.entries.get_mut(index as usize) {
            entry.receive = if is_queued { receive } else { Receive::Idle };
        }
        self.arm_again |= !is_queued;
    }

    /// Ends the receive of a socket, for it to change or to close.
    fn end(&mut self, index: u32) {
        let Some(entry) = self.entries.get_mut(index as usize) else { return };
        if entry.is_armed() {
            if entry.ending {
                return;
            }
            let cancel = opcode::AsyncCancel::new(entry.mark() | u64::from(index)).build();
            let is_queued = self.push(&cancel.flags(Flags::SKIP_SUCCESS).user_data(CANCEL));
            if let Some(entry) = self.entries.get_mut(index as usize) {
                entry.ending = is_queued;
            }
            self.arm_again |= !is_queued;
            return;
        }
        entry.receive = Receive::Idle;
        if let Some(sweep) = entry.sweep {
            self.sweeps[sweep].retain(|&other| other != index);
        }
        // What it has queued leaves before it closes.
        if self.entries.get(index as usize).is_some_and(|entry| entry.closing) {
            self.flush();
            self.free(index);
        }
    }

    /// Queues an entry, handing over the queue when it is full; `false` when the kernel takes none.
    fn push(&mut self, entry: &squeue::Entry) -> bool {
        if self.ring.submission().is_full() {
            self.enter(EnterFlags::empty());
        }
        // SAFETY: what the entry points to (the arena, the receive form) outlives the ring's use.
        unsafe { self.ring.submission().push(entry) }.is_ok()
    }

    /// Hands over the queue; with `GETEVENTS` also runs the receives that are due.
    fn enter(&mut self, flags: EnterFlags) {
        for _ in 0..SUBMIT_TRIES {
            let count = self.ring.submission().len();
            self.counters.syscalls += 1;
            // SAFETY: no argument is passed, and the entries are of this driver.
            let result = unsafe { self.ring.submitter().enter::<()>(count as u32, 0, flags.bits(), None) };
            let taken = result.unwrap_or(0);
            if taken >= count {
                self.counters.sent += std::mem::take(&mut self.queued);
                self.arena_used = 0;
                return;
            }
        }
    }

    /// Handles the completions that are there.
    fn complete(&mut self, deliver: &mut impl FnMut(u32, Option<SocketAddr>, &mut [u8])) {
        loop {
            let Some(completion) = self.ring.completion().next() else { return };
            let index = completion.user_data() as u32;
            match completion.user_data() & KIND {
                RECEIVE => self.received(index, false, &completion, deliver),
                RECEIVE_NAMED => self.received(index, true, &completion, deliver),
                SWEPT => self.answered(index, &completion, deliver),
                SEND => {
                    self.counters.sent = self.counters.sent.saturating_sub(1);
                    count_send_error(&mut self.counters, -completion.result());
                }
                // A cancellation that found nothing: the receive had ended by itself.
                _ => {}
            }
        }
    }

    /// Handles the completion of a receive: a datagram, an error, or the end.
    fn received(
        &mut self,
        index: u32,
        named: bool,
        completion: &cqueue::Entry,
        deliver: &mut impl FnMut(u32, Option<SocketAddr>, &mut [u8]),
    ) {
        let Some(entry) = self.entries.get(index as usize) else { return };
        let mut change = false;
        if let Some(buffer) = cqueue::buffer_select(completion.flags()) {
            let len = usize::try_from(completion.result()).unwrap_or(0);
            let datagram =
                if named { self.buffers.named(buffer, len) } else { self.buffers.plain(buffer, len) };
            if let (Some((name, datagram)), false) = (datagram, entry.closing) {
                let admitted = if named { entry.socket.admit(Name::read(name)) } else { Some(None) };
                match admitted {
                    _ if datagram.is_empty() => self.counters.empty += 1,
                    Some(from) => {
                        change = named && from.is_none();
                        self.counters.received += 1;
                        deliver(entry.socket.token, from, datagram);
                    }
                    None => self.counters.foreign += 1,
                }
            } else if !entry.closing {
                self.counters.truncated += 1;
            }
            self.buffers.give_back(buffer);
        }
        match -completion.result() {
            libc::ENOBUFS => self.counters.starved += 1,
            libc::ECANCELED => {}
            // Without the sender, an empty datagram takes no buffer and ends the receive.
            0 if !cqueue::more(completion.flags()) => self.counters.empty += 1,
            errno if errno > 0 => count_receive_error(&mut self.counters, errno),
            _ => {}
        }
        if !cqueue::more(completion.flags()) {
            if let Some(entry) = self.entries.get_mut(index as usize) {
                entry.receive = Receive::Idle;
            }
            self.ended(index);
        } else if change {
            self.end(index);
        }
    }

    /// Closes a socket whose receive has ended.
    fn free(&mut self, index: u32) {
        // A refused update would only mean that the place is empty already.
        let _ = self.ring.submitter().register_files_update(index, &[-1]);
        drop(self.entries.try_remove(index as usize));
    }

    /// The socket of a key that is still in.
    fn entry(&mut self, key: SocketKey) -> Option<&mut Entry> {
        let entry = self
            .entries
            .get_mut(key.index as usize)
            .filter(|entry| !entry.closing && entry.socket.generation == key.generation);
        if entry.is_none() {
            self.counters.stale += 1;
        }
        entry
    }
}

impl Drop for Driver {
    /// Closes the sockets now: the kernel would take its time to end receives that are armed, and
    /// their ports would stay taken.
    fn drop(&mut self) {
        for index in 0..self.entries.capacity() as u32 {
            if let Some(entry) = self.entries.get_mut(index as usize)
                && !std::mem::replace(&mut entry.closing, true)
            {
                self.end(index);
            }
        }
        for _ in 0..CLOSE_TRIES {
            if self.entries.is_empty() {
                return;
            }
            self.poll(&mut |_, _, _| {});
        }
    }
}
