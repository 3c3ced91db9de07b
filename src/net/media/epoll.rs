//! The driver for everywhere: epoll says which sockets have something, then one call per datagram.
//! Swept sockets are not under epoll at all.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use slab::Slab;

use super::pace::Pace;
use super::socket::{NAME_BYTES, Name, Socket, count_receive_error, count_send_error};
use super::{Counters, DATAGRAM_MAX, SWEEPS, SocketKey};

/// Ready sockets asked for at once.
const EVENTS_MAX: usize = 512;
/// Rounds of asking in one poll: a socket gives one datagram a round.
const ROUNDS_MAX: usize = 64;

/// A socket and how it is looked at.
#[derive(Debug)]
struct Entry {
    socket: Socket,
    /// The sweep it is in while it is connected.
    sweep: Option<usize>,
    /// Whether it is in that sweep now, and not under epoll.
    is_swept: bool,
    pace: Pace,
}

/// What looking at a socket brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// A datagram, delivered or dropped.
    Datagram,
    /// Nothing.
    Empty,
    /// An error, which is over by that.
    Error,
}

/// UDP sockets under epoll.
pub(super) struct Driver {
    epoll: OwnedFd,
    sockets: Slab<Entry>,
    /// Who is in which sweep.
    sweeps: Vec<Vec<u32>>,
    capacity: usize,
    generation: u32,
    events: Box<[libc::epoll_event]>,
    buffer: Box<[u8]>,
    counters: Counters,
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("epoll")
            .field("sockets", &self.sockets.len())
            .field("counters", &self.counters)
            .finish()
    }
}

impl Driver {
    pub(super) fn open(capacity: usize) -> io::Result<Self> {
        // SAFETY: takes numbers only.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just gave us this descriptor and nobody else has it.
        let epoll = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self {
            epoll,
            sockets: Slab::new(),
            sweeps: vec![Vec::new(); SWEEPS],
            capacity,
            generation: 0,
            events: vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX].into_boxed_slice(),
            buffer: vec![0; DATAGRAM_MAX].into_boxed_slice(),
            counters: Counters::default(),
        })
    }

    pub(super) fn add(&mut self, udp: UdpSocket, token: u32) -> io::Result<SocketKey> {
        if self.sockets.len() >= self.capacity {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        self.generation = self.generation.wrapping_add(1);
        let socket = Socket::new(udp, token, self.generation)?;
        let index = self.sockets.vacant_key() as u32;
        self.control(libc::EPOLL_CTL_ADD, socket.udp.as_raw_fd(), index)?;
        self.sockets.insert(Entry { socket, sweep: None, is_swept: false, pace: Pace::new(index) });
        Ok(SocketKey { index, generation: self.generation })
    }

    /// Puts a descriptor under epoll or takes it out.
    fn control(&self, operation: libc::c_int, fd: libc::c_int, index: u32) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: u64::from(index) };
        // SAFETY: both descriptors are open and `event` lives through the call.
        match unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), operation, fd, &mut event) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    pub(super) fn remove(&mut self, key: SocketKey) {
        if self.entry(key).is_some() {
            self.leave_sweep(key.index);
            // Closing takes it out of the epoll set: nobody else has the descriptor.
            drop(self.sockets.remove(key.index as usize));
        }
    }

    pub(super) fn take(&mut self, key: SocketKey) -> io::Result<UdpSocket> {
        let entry = self.entry(key).ok_or(io::ErrorKind::NotFound)?;
        let (fd, is_swept) = (entry.socket.udp.as_raw_fd(), entry.is_swept);
        // It stays open, so that closing does not take it out.
        let taken_out = if is_swept { Ok(()) } else { self.control(libc::EPOLL_CTL_DEL, fd, key.index) };
        self.leave_sweep(key.index);
        let entry = self.sockets.remove(key.index as usize);
        taken_out.map(|()| entry.socket.udp)
    }

    pub(super) fn connect(&mut self, key: SocketKey, peer: SocketAddr) -> io::Result<()> {
        let socket = &mut self.entry(key).ok_or(io::ErrorKind::NotFound)?.socket;
        if socket.is_connected_to(peer) {
            return Ok(());
        }
        let connected = socket.connect(peer);
        // A failure may have left it connected to nobody.
        connected.and(self.place(key.index))
    }

    pub(super) fn disconnect(&mut self, key: SocketKey) -> io::Result<()> {
        self.entry(key).ok_or(io::ErrorKind::NotFound)?.socket.disconnect()?;
        self.place(key.index)
    }

    pub(super) fn sweep(&mut self, key: SocketKey, sweep: Option<usize>) {
        let Some(entry) = self.entry(key) else { return };
        let sweep = sweep.map(|sweep| sweep % SWEEPS);
        if entry.sweep == sweep {
            return;
        }
        let was_swept = entry.is_swept;
        self.leave_sweep(key.index);
        let Some(entry) = self.sockets.get_mut(key.index as usize) else { return };
        entry.sweep = sweep;
        let fd = entry.socket.udp.as_raw_fd();
        let placed = match was_swept {
            true => self.control(libc::EPOLL_CTL_ADD, fd, key.index),
            false => Ok(()),
        };
        if placed.and_then(|()| self.place(key.index)).is_err() {
            self.counters.receive_failed += 1;
        }
    }

    /// Puts a socket where it belongs: in its sweep while it is connected, else under epoll.
    fn place(&mut self, index: u32) -> io::Result<()> {
        let Some(entry) = self.sockets.get(index as usize) else { return Ok(()) };
        let fd = entry.socket.udp.as_raw_fd();
        match (entry.sweep.filter(|_| entry.socket.peer.is_some()), entry.is_swept) {
            (Some(sweep), false) => {
                self.control(libc::EPOLL_CTL_DEL, fd, index)?;
                self.sweeps[sweep].push(index);
                if let Some(entry) = self.sockets.get_mut(index as usize) {
                    entry.is_swept = true;
                }
                Ok(())
            }
            (None, true) => {
                self.leave_sweep(index);
                self.control(libc::EPOLL_CTL_ADD, fd, index)
            }
            _ => Ok(()),
        }
    }

    fn leave_sweep(&mut self, index: u32) {
        if let Some(entry) = self.sockets.get_mut(index as usize)
            && std::mem::take(&mut entry.is_swept)
            && let Some(sweep) = entry.sweep
        {
            self.sweeps[sweep].retain(|&other| other != index);
        }
    }

    pub(super) fn poll_sweep(
        &mut self,
        sweep: usize,
        deliver: &mut impl FnMut(u32, Option<SocketAddr>, &mut [u8]),
    ) {
        for at in 0..self.sweeps[sweep % SWEEPS].len() {
            let index = self.sweeps[sweep % SWEEPS][at] as usize;
            if let Some(entry) = self.sockets.get_mut(index) {
                entry.pace.begin();
            }
            loop {
                let look = self.receive(index, deliver);
                let Some(entry) = self.sockets.get_mut(index) else { break };
                match look {
                    Look::Datagram if entry.pace.found() => {}
                    Look::Datagram | Look::Error => break,
                    Look::Empty => {
                        entry.pace.drained();
                        break;
                    }
                }
            }
        }
    }

    pub(super) fn poll(&mut self, deliver: &mut impl FnMut(u32, Option<SocketAddr>, &mut [u8])) {
        if self.sockets.is_empty() {
            return;
        }
        for _ in 0..ROUNDS_MAX {
            let (fd, events) = (self.epoll.as_raw_fd(), self.events.as_mut_ptr());
            self.counters.syscalls += 1;
            // SAFETY: `events` has room for as many events as are asked for.
            let ready = unsafe { libc::epoll_wait(fd, events, EVENTS_MAX as libc::c_int, 0) };
            // Zero: all drained. Negative: a signal; the next poll sees what is there.
            if ready <= 0 {
                return;
            }
            for at in 0..ready as usize {
                let index = self.events[at].u64 as usize;
                self.receive(index, deliver);
            }
        }
        self.counters.poll_limited += 1;
    }

    /// Takes one datagram, or one error, off a socket.
    fn receive(
        &mut self,
        index: usize,
        deliver: &mut impl FnMut(u32, Option<SocketAddr>, &mut [u8]),
    ) -> Look {
        let Some(Entry { socket, .. }) = self.sockets.get(index) else { return Look::Empty };
        let mut name = [0u8; NAME_BYTES];
        let mut name_len = NAME_BYTES as libc::socklen_t;
        self.counters.syscalls += 1;
        // SAFETY: the buffer, the name and its length are writable for the lengths given. With
        // MSG_TRUNC the answer is the datagram's own length, which may be more.
        let len = unsafe {
            libc::recvfrom(
                socket.udp.as_raw_fd(),
                self.buffer.as_mut_ptr().cast(),
                self.buffer.len(),
                libc::MSG_DONTWAIT | libc::MSG_TRUNC,
                name.as_mut_ptr().cast(),
                &mut name_len,
            )
        };
        let Ok(len) = usize::try_from(len) else {
            let errno = io::Error::last_os_error().raw_os_error().unwrap_or(0);
            if errno == libc::EAGAIN {
                return Look::Empty;
            }
            count_receive_error(&mut self.counters, errno);
            return Look::Error;
        };
        let Some(datagram) = self.buffer.get_mut(..len) else {
            self.counters.truncated += 1;
            return Look::Datagram;
        };
        match socket.admit(Name::read(&name)) {
            _ if datagram.is_empty() => self.counters.empty += 1,
            Some(from) => {
                self.counters.received += 1;
                deliver(socket.token, from, datagram);
            }
            None => self.counters.foreign += 1,
        }
        Look::Datagram
    }

    /// Sends at once: without io_uring a queue would only add a copy.
    pub(super) fn send(&mut self, key: SocketKey, to: SocketAddr, datagram: &[u8]) {
        let Some(Entry { socket, .. }) = self.entry(key) else { return };
        let fd = socket.udp.as_raw_fd();
        let name = (socket.peer != Some(to)).then(|| socket.name(to));
        let (name, name_len) =
            name.as_ref().map_or((std::ptr::null(), 0), |name| (name.as_ptr(), name.len()));
        if datagram.len() > DATAGRAM_MAX {
            self.counters.send_failed += 1;
            return;
        }
        self.counters.syscalls += 1;
        // SAFETY: the datagram and the name, if any, are readable for the lengths given.
        let sent = unsafe {
            libc::sendto(fd, datagram.as_ptr().cast(), datagram.len(), libc::MSG_DONTWAIT, name, name_len)
        };
        if sent >= 0 {
            self.counters.sent += 1;
        } else {
            count_send_error(&mut self.counters, io::Error::last_os_error().raw_os_error().unwrap_or(0));
        }
    }

    pub(super) fn flush(&mut self) {}

    pub(super) fn len(&self) -> usize {
        self.sockets.len()
    }

    pub(super) fn counters(&self) -> Counters {
        self.counters
    }

    /// The socket of a key that is still in.
    fn entry(&mut self, key: SocketKey) -> Option<&mut Entry> {
        let entry = self.sockets.get_mut(key.index as usize);
        let entry = entry.filter(|entry| entry.socket.generation == key.generation);
        if entry.is_none() {
            self.counters.stale += 1;
        }
        entry
    }
}
