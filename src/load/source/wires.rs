//! The RTP sockets of the load source, one per call.
//!
//! In slots they are driven by the batch, like a media thread's. Exactly, each is a phone of its own:
//! a send of its own at its own time, and then a look at what has come, whose time of arrival is the
//! kernel's. Nobody sleeps on such a socket, so the server that sends to it wakes nobody, as it would
//! not if the phone were another machine.

use std::io;
use std::mem;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use crate::net::clock::Clock;
use crate::net::media::{Backend, Counters, DATAGRAM_MAX, MediaIo, SocketKey};
use crate::time::{Duration, Instant};

/// Datagrams read from one socket at one look: one is usual.
const READS_MAX: usize = 16;
/// Bytes for the kernel's note of the arrival: a header and a time, with room to spare.
const NOTE_BYTES: usize = 64;

/// The sockets, by call.
#[derive(Debug)]
pub enum Wires {
    /// Driven by the batch.
    Batched {
        /// The driver, which knows each socket by the index of its call.
        io: Box<MediaIo>,
        /// The driver's names for them.
        keys: Vec<Option<SocketKey>>,
    },
    /// Each by its own system calls.
    Exact(Exact),
}

impl Wires {
    /// No sockets yet, for `calls` calls, by the batch.
    ///
    /// # Errors
    /// When the system refuses the interface.
    pub fn batched(backend: Backend, calls: usize) -> io::Result<Wires> {
        Ok(Wires::Batched { io: Box::new(MediaIo::open(backend, calls)?), keys: vec![None; calls] })
    }

    /// No sockets yet, for `calls` calls, each on its own.
    pub fn exact(clock: Clock, calls: usize) -> Wires {
        Wires::Exact(Exact::new(clock, calls))
    }

    /// What drives them.
    pub fn name(&self) -> &'static str {
        match self {
            Wires::Batched { io, .. } => io.name(),
            Wires::Exact(_) => "plain sockets",
        }
    }

    /// Takes the socket of call `index`.
    ///
    /// # Errors
    /// What the system says.
    pub fn add(&mut self, index: u32, socket: UdpSocket) -> io::Result<()> {
        match self {
            Wires::Batched { io, keys } => {
                let key = io.add(socket, index)?;
                if let Some(place) = keys.get_mut(index as usize) {
                    *place = Some(key);
                }
                Ok(())
            }
            Wires::Exact(exact) => exact.add(index, socket),
        }
    }

    /// The call's peer is known.
    ///
    /// # Errors
    /// What the system says, or that the call has no socket.
    pub fn connect(&mut self, index: u32, peer: SocketAddr) -> io::Result<()> {
        match self {
            Wires::Batched { io, keys } => {
                let key = keys.get(index as usize).copied().flatten().ok_or(io::ErrorKind::NotFound)?;
                io.connect(key, peer)
            }
            Wires::Exact(exact) => exact.socket(index).ok_or(io::ErrorKind::NotFound)?.connect(peer),
        }
    }

    /// Closes the call's socket, if it has one.
    pub fn remove(&mut self, index: u32) {
        match self {
            Wires::Batched { io, keys } => {
                if let Some(key) = keys.get_mut(index as usize).and_then(Option::take) {
                    io.remove(key);
                }
            }
            Wires::Exact(exact) => {
                if let Some(place) = exact.sockets.get_mut(index as usize) {
                    *place = None;
                }
            }
        }
    }

    /// Sends to the call's `peer`; what is driven by the batch goes out with [`Wires::flush`].
    pub fn send(&mut self, index: u32, peer: SocketAddr, datagram: &[u8]) {
        match self {
            Wires::Batched { io, keys } => {
                if let Some(key) = keys.get(index as usize).copied().flatten() {
                    io.send(key, peer, datagram);
                }
            }
            Wires::Exact(exact) => exact.send(index, datagram),
        }
    }

    /// Sends what is queued.
    pub fn flush(&mut self) {
        if let Wires::Batched { io, .. } = self {
            io.flush();
        }
    }

    /// What became of the sends.
    pub fn counters(&self) -> Counters {
        match self {
            Wires::Batched { io, .. } => io.counters(),
            Wires::Exact(exact) => exact.counters,
        }
    }
}

/// Sockets that are each driven on their own.
#[derive(Debug)]
pub struct Exact {
    sockets: Vec<Option<UdpSocket>>,
    /// What UTC shows when the monotonic clock shows zero.
    wall_at_zero: Duration,
    buffer: Box<[u8; DATAGRAM_MAX]>,
    counters: Counters,
}

impl Exact {
    fn new(clock: Clock, calls: usize) -> Exact {
        let now = clock.both();
        let wall = Duration::from_micros(now.wall.as_micros().unsigned_abs());
        Exact {
            sockets: (0..calls).map(|_| None).collect(),
            wall_at_zero: wall.saturating_sub(Duration::from_nanos(now.instant.as_nanos())),
            buffer: Box::new([0; DATAGRAM_MAX]),
            counters: Counters::default(),
        }
    }

    fn add(&mut self, index: u32, socket: UdpSocket) -> io::Result<()> {
        let on: libc::c_int = 1;
        let length = size_of_val(&on) as libc::socklen_t;
        // SAFETY: the option's value is readable for the length given.
        let set = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_TIMESTAMPNS,
                (&raw const on).cast(),
                length,
            )
        };
        if set != 0 {
            return Err(io::Error::last_os_error());
        }
        if let Some(place) = self.sockets.get_mut(index as usize) {
            *place = Some(socket);
        }
        Ok(())
    }

    fn socket(&self, index: u32) -> Option<&UdpSocket> {
        self.sockets.get(index as usize)?.as_ref()
    }

    fn send(&mut self, index: u32, datagram: &[u8]) {
        let Some(socket) = self.socket(index) else { return };
        match socket.send(datagram) {
            Ok(_) => self.counters.sent += 1,
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => self.counters.send_refused += 1,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.counters.send_full += 1,
            Err(_) => self.counters.send_failed += 1,
        }
    }

    /// Delivers what the call's socket holds, each with the time of its arrival; `now` where the
    /// kernel did not note it.
    pub fn receive(&mut self, index: u32, now: Instant, mut deliver: impl FnMut(Instant, &[u8])) {
        for _ in 0..READS_MAX {
            let Some(socket) = self.sockets.get(index as usize).and_then(Option::as_ref) else { return };
            match read(socket, &mut self.buffer[..]) {
                Ok((length, arrived)) => {
                    self.counters.received += 1;
                    let at = arrived.map_or(now, |wall| {
                        Instant::from_nanos(wall.saturating_sub(self.wall_at_zero).as_nanos() as u64)
                    });
                    deliver(at, &self.buffer[..length]);
                }
                // An error of an earlier send is passed over; what it announces shows in the counts.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    self.counters.receive_refused += 1;
                }
                Err(_) => return,
            }
        }
    }
}

/// Reads one datagram without waiting: its length, and its arrival in UTC since 1970 where noted.
fn read(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, Option<Duration>)> {
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut note = [0u64; NOTE_BYTES / size_of::<u64>()];
    // SAFETY: every field of a msghdr may be zero: no name, no data, no control.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = note.as_mut_ptr().cast();
    message.msg_controllen = NOTE_BYTES as _;
    // SAFETY: the buffer and the note are writable for the lengths given.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the kernel filled the message's control part, which is aligned for its headers.
    let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message).as_ref() };
    let noted = header
        .filter(|header| header.cmsg_level == libc::SOL_SOCKET && header.cmsg_type == libc::SCM_TIMESTAMPNS);
    let arrived = noted.map(|header| {
        // SAFETY: a note of this type holds a timespec.
        let time: libc::timespec =
            unsafe { libc::CMSG_DATA(header).cast::<libc::timespec>().read_unaligned() };
        Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
    });
    Ok((length, arrived))
}
