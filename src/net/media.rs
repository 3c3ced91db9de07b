//! The UDP sockets of one media thread, driven by the batch.
//!
//! At scale the system calls are the cost of a media server, so a thread does not wake per packet:
//! it sleeps on the clock ([`Waker::wait`]), collects what has come ([`MediaIo::poll`]), does its
//! work, and hands over all that it wants sent at once ([`MediaIo::flush`]). io_uring does each of
//! these in one call for all sockets; epoll is there for containers that refuse io_uring.
//!
//! A socket whose peer is known is connected: its sends skip the route lookup and the kernel keeps
//! third parties out.

mod epoll;
mod pace;
mod pages;
mod ports;
mod socket;
#[cfg(test)]
mod tests;
mod uring;
mod wake;
mod xdp;

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

pub use ports::{PortPair, PortsError, RtpPorts};
pub use wake::Waker;
pub use xdp::Interface;

use xdp::{Express, Sent};

/// The largest datagram that is received or sent, in bytes: what fits an Ethernet frame. Larger
/// ones are dropped and counted.
pub const DATAGRAM_MAX: usize = 1500;

/// Sweeps that sockets can be spread over ([`MediaIo::sweep`]).
pub const SWEEPS: usize = 80;

/// Which system interface drives the sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// io_uring where the kernel allows it, else epoll.
    #[default]
    Auto,
    /// io_uring or an error.
    Uring,
    /// epoll.
    Epoll,
}

impl Backend {
    /// What [`MediaIo::open`] would use, and why not io_uring where it was asked for.
    pub fn resolve(self) -> (Backend, Option<String>) {
        match self {
            Backend::Epoll => (Backend::Epoll, None),
            Backend::Uring => (Backend::Uring, None),
            Backend::Auto => match uring::Driver::open(1) {
                Ok(_) => (Backend::Uring, None),
                Err(error) => (Backend::Epoll, Some(reason(&error))),
            },
        }
    }
}

/// Why io_uring is not used, for the log.
fn reason(error: &io::Error) -> String {
    format!("io_uring is not available ({error}); it needs Linux 6.1 and a container that allows it")
}

/// A socket of a [`MediaIo`]. Never reused: the key of a removed socket is without effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SocketKey {
    index: u32,
    generation: u32,
}

/// What a [`MediaIo`] has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams delivered.
    pub received: u64,
    /// Datagrams handed to the kernel and taken.
    pub sent: u64,
    /// Datagrams not sent because a buffer of the kernel was full.
    pub send_full: u64,
    /// Sends that met an ICMP "port unreachable" of an earlier one. The datagram is lost.
    pub send_refused: u64,
    /// Datagrams not sent because there is no route to the peer.
    pub send_unreachable: u64,
    /// Datagrams not sent for another reason, too long ones among them.
    pub send_failed: u64,
    /// Receives that met an ICMP error of an earlier send. The socket goes on.
    pub receive_refused: u64,
    /// Receives that failed otherwise. The socket goes on.
    pub receive_failed: u64,
    /// Datagrams longer than [`DATAGRAM_MAX`], dropped.
    pub truncated: u64,
    /// Empty datagrams, dropped.
    pub empty: u64,
    /// Datagrams of third parties that were queued before the socket was connected, dropped.
    pub foreign: u64,
    /// Times the receive buffers ran out for a moment. No datagram is lost by that.
    pub starved: u64,
    /// Times a poll ended at its limit with datagrams left for the next one.
    pub poll_limited: u64,
    /// Uses of a key whose socket is gone.
    pub stale: u64,
    /// System calls made.
    pub syscalls: u64,
    /// Of the datagrams delivered, those that came by the express path.
    pub express_received: u64,
    /// Of the datagrams sent, those that left by the express path.
    pub express_sent: u64,
    /// Datagrams lost on the express path because its frames were all in use.
    pub express_lost: u64,
}

impl std::ops::Add for Counters {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            received: self.received + other.received,
            sent: self.sent + other.sent,
            send_full: self.send_full + other.send_full,
            send_refused: self.send_refused + other.send_refused,
            send_unreachable: self.send_unreachable + other.send_unreachable,
            send_failed: self.send_failed + other.send_failed,
            receive_refused: self.receive_refused + other.receive_refused,
            receive_failed: self.receive_failed + other.receive_failed,
            truncated: self.truncated + other.truncated,
            empty: self.empty + other.empty,
            foreign: self.foreign + other.foreign,
            starved: self.starved + other.starved,
            poll_limited: self.poll_limited + other.poll_limited,
            stale: self.stale + other.stale,
            syscalls: self.syscalls + other.syscalls,
            express_received: self.express_received + other.express_received,
            express_sent: self.express_sent + other.express_sent,
            express_lost: self.express_lost + other.express_lost,
        }
    }
}

/// The sockets of one media thread. Open it on the thread that uses it.
#[derive(Debug)]
pub struct MediaIo {
    driver: Driver,
    fallback: Option<String>,
    express: Option<Box<Express>>,
}

#[derive(Debug)]
enum Driver {
    Uring(Box<uring::Driver>),
    Epoll(Box<epoll::Driver>),
}

/// Calls the driver in use.
macro_rules! on_driver {
    ($self:ident, $driver:ident => $call:expr) => {
        match &mut $self.driver {
            Driver::Uring($driver) => $call,
            Driver::Epoll($driver) => $call,
        }
    };
}

impl MediaIo {
    /// Opens a driver for up to `capacity` sockets. With [`Backend::Auto`] a refused io_uring
    /// falls back to epoll ([`MediaIo::fallback`] says why).
    ///
    /// # Errors
    /// What the kernel says when it refuses the interface asked for.
    pub fn open(backend: Backend, capacity: usize) -> io::Result<Self> {
        let epoll = || epoll::Driver::open(capacity).map(|driver| Driver::Epoll(Box::new(driver)));
        let uring = || uring::Driver::open(capacity).map(|driver| Driver::Uring(Box::new(driver)));
        match backend {
            Backend::Uring => Ok(Self { driver: uring()?, fallback: None, express: None }),
            Backend::Epoll => Ok(Self { driver: epoll()?, fallback: None, express: None }),
            Backend::Auto => match uring() {
                Ok(driver) => Ok(Self { driver, fallback: None, express: None }),
                Err(error) => Ok(Self { driver: epoll()?, fallback: Some(reason(&error)), express: None }),
            },
        }
    }

    /// Takes the packets of connected sockets by the express path, where they come by the queue of
    /// the interface that has this thread's number; `false` when it has no such queue.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn attach(&mut self, interface: Arc<Interface>, thread: u32) -> io::Result<bool> {
        self.express = Express::open(interface, thread)?.map(Box::new);
        Ok(self.express.is_some())
    }

    /// The interface in use: `io_uring` or `epoll`.
    pub fn name(&self) -> &'static str {
        match &self.driver {
            Driver::Uring(_) => "io_uring",
            Driver::Epoll(_) => "epoll",
        }
    }

    /// Why io_uring is not in use although it was preferred.
    pub fn fallback(&self) -> Option<&str> {
        self.fallback.as_deref()
    }

    /// Takes a bound socket; its datagrams are delivered with `token`.
    ///
    /// # Errors
    /// [`io::ErrorKind::QuotaExceeded`] when `capacity` sockets are in, else what the kernel says.
    pub fn add(&mut self, socket: UdpSocket, token: u32) -> io::Result<SocketKey> {
        let port = socket.local_addr()?.port();
        let key = on_driver!(self, driver => driver.add(socket, token))?;
        if let Some(express) = &mut self.express {
            express.add(key, token, port);
        }
        Ok(key)
    }

    /// Closes a socket. Nothing of it is delivered after this; what was queued on it is sent first.
    /// Its port is free after the next [`MediaIo::poll`] at the latest.
    pub fn remove(&mut self, key: SocketKey) {
        if let Some(express) = &mut self.express {
            express.remove(key);
        }
        on_driver!(self, driver => driver.remove(key))
    }

    /// Gives a socket back, connected as it is. Nothing of it is delivered after this; what was queued on
    /// it is sent first.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] for a removed socket, else what the kernel says; it is removed then.
    pub fn take(&mut self, key: SocketKey) -> io::Result<UdpSocket> {
        self.flush();
        if let Some(express) = &mut self.express {
            express.remove(key);
        }
        on_driver!(self, driver => driver.take(key))
    }

    /// Takes datagrams of `peer` only from now on, and sends to it the cheap way.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] for a removed socket, else what the kernel says (no route).
    pub fn connect(&mut self, key: SocketKey, peer: SocketAddr) -> io::Result<()> {
        on_driver!(self, driver => driver.connect(key, peer))?;
        if let Some(express) = &mut self.express {
            express.connect(key, peer);
        }
        Ok(())
    }

    /// Undoes [`MediaIo::connect`]: takes datagrams of everyone.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] for a removed socket, else what the kernel says.
    pub fn disconnect(&mut self, key: SocketKey) -> io::Result<()> {
        if let Some(express) = &mut self.express {
            express.disconnect(key);
        }
        on_driver!(self, driver => driver.disconnect(key))
    }

    /// Says that the caller will look at this socket by [`MediaIo::poll_sweep`] with this number (of
    /// [`SWEEPS`]) at even intervals, about as often as datagrams come: that is cheaper than being
    /// told of each by [`MediaIo::poll`]. It holds while the socket is connected; until it is, and
    /// until the first datagram after that, [`MediaIo::poll`] delivers. `None` undoes it.
    ///
    /// A sweep takes what came since the last one, up to a few datagrams a socket, and may leave one
    /// that came in addition for the next. On the express path it gives what the last
    /// [`MediaIo::poll`] found.
    pub fn sweep(&mut self, key: SocketKey, sweep: Option<usize>) {
        let sweep = match &mut self.express {
            Some(express) => express.sweep(key, sweep),
            None => sweep,
        };
        on_driver!(self, driver => driver.sweep(key, sweep))
    }

    /// Delivers what has arrived on the sockets of one sweep, like [`MediaIo::poll`].
    pub fn poll_sweep(&mut self, sweep: usize, mut deliver: impl FnMut(u32, Option<SocketAddr>, &mut [u8])) {
        if let Some(express) = &mut self.express {
            express.poll_sweep(sweep, &mut deliver);
        }
        on_driver!(self, driver => driver.poll_sweep(sweep, &mut deliver))
    }

    /// Delivers what has arrived as (token, sender, datagram), without waiting and up to a limit.
    /// The sender is `None` when it is the peer that the socket is connected to.
    pub fn poll(&mut self, mut deliver: impl FnMut(u32, Option<SocketAddr>, &mut [u8])) {
        on_driver!(self, driver => {
            driver.poll(&mut deliver);
            if let Some(express) = &mut self.express {
                express.poll(&mut deliver, |key| driver.sweep(key, None));
            }
        })
    }

    /// Queues a datagram to `to`; [`MediaIo::flush`] sends it. Cheapest when the socket is connected
    /// to `to`. Failures are counted, not reported: the network may lose any datagram.
    pub fn send(&mut self, key: SocketKey, to: SocketAddr, datagram: &[u8]) {
        let sent = self.express.as_mut().map_or(Sent::BySocket, |express| express.send(key, to, datagram));
        on_driver!(self, driver => {
            if let Sent::Lost(sweep) = sent {
                driver.sweep(key, sweep);
            }
            if sent != Sent::Express {
                driver.send(key, to, datagram);
            }
        })
    }

    /// Sends what is queued.
    pub fn flush(&mut self) {
        if let Some(express) = &mut self.express {
            express.flush();
        }
        on_driver!(self, driver => driver.flush())
    }

    /// Sockets in the driver.
    pub fn len(&self) -> usize {
        match &self.driver {
            Driver::Uring(driver) => driver.len(),
            Driver::Epoll(driver) => driver.len(),
        }
    }

    /// Whether the driver has no socket.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the driver has done.
    pub fn counters(&self) -> Counters {
        let driver = match &self.driver {
            Driver::Uring(driver) => driver.counters(),
            Driver::Epoll(driver) => driver.counters(),
        };
        driver + self.express.as_ref().map_or_else(Counters::default, |express| express.counters())
    }
}
