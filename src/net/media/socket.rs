//! One UDP socket: its address forms, its peer, and the calls on it that are the same under
//! every driver.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd;

use super::Counters;

/// Bytes of the longest address the kernel takes or gives: `sockaddr_in6`.
pub(super) const NAME_BYTES: usize = 28;
/// Bytes of `sockaddr_in`.
const NAME_V4_BYTES: usize = 16;

/// An address as the kernel takes it.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
pub(super) struct Name {
    bytes: [u8; NAME_BYTES],
    len: u32,
}

impl Name {
    /// `AF_UNSPEC`: connecting to it disconnects.
    const NOBODY: Name = Name { bytes: [0; NAME_BYTES], len: NAME_V4_BYTES as u32 };

    /// The form of `address` that a socket of the family takes (`v6`: with IPv4 mapped).
    pub(super) fn new(address: SocketAddr, v6: bool) -> Self {
        let mut bytes = [0; NAME_BYTES];
        bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
        let (ip, scope) = match address {
            SocketAddr::V4(v4) if !v6 => {
                bytes[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
                bytes[4..8].copy_from_slice(&v4.ip().octets());
                return Self { bytes, len: NAME_V4_BYTES as u32 };
            }
            SocketAddr::V4(v4) => (v4.ip().to_ipv6_mapped(), 0),
            SocketAddr::V6(v6) => (*v6.ip(), v6.scope_id()),
        };
        bytes[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
        bytes[8..24].copy_from_slice(&ip.octets());
        bytes[24..28].copy_from_slice(&scope.to_ne_bytes());
        Self { bytes, len: NAME_BYTES as u32 }
    }

    /// The address in the kernel's bytes, IPv4 unmapped; `None` for other families.
    pub(super) fn read(bytes: &[u8]) -> Option<SocketAddr> {
        let family = i32::from(u16::from_ne_bytes(*bytes.first_chunk()?));
        let port = u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?);
        if family == libc::AF_INET {
            let ip: [u8; 4] = *bytes.get(4..)?.first_chunk()?;
            return Some(SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::from(ip), port)));
        }
        if family != libc::AF_INET6 {
            return None;
        }
        let ip: [u8; 16] = *bytes.get(8..)?.first_chunk()?;
        let scope = u32::from_ne_bytes(*bytes.get(24..)?.first_chunk()?);
        Some(match Ipv6Addr::from(ip).to_canonical() {
            IpAddr::V4(ip) => SocketAddr::V4(SocketAddrV4::new(ip, port)),
            IpAddr::V6(ip) => SocketAddr::V6(SocketAddrV6::new(ip, port, 0, scope)),
        })
    }

    /// Where the bytes are; valid while this value stays in place.
    pub(super) fn as_ptr(&self) -> *const libc::sockaddr {
        self.bytes.as_ptr().cast()
    }

    /// How many bytes count.
    pub(super) fn len(&self) -> libc::socklen_t {
        self.len
    }
}

/// A socket in a driver.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) udp: UdpSocket,
    pub(super) token: u32,
    pub(super) generation: u32,
    /// Whom it is connected to.
    pub(super) peer: Option<SocketAddr>,
    /// Where it was bound when it came.
    local: SocketAddr,
}

impl Socket {
    /// Takes over a bound socket.
    ///
    /// # Errors
    /// When it is no bound IP socket.
    pub(super) fn new(udp: UdpSocket, token: u32, generation: u32) -> io::Result<Self> {
        udp.set_nonblocking(true)?;
        let local = udp.local_addr()?;
        Ok(Self { udp, token, generation, peer: None, local })
    }

    /// `address` for this socket's family.
    pub(super) fn name(&self, address: SocketAddr) -> Name {
        Name::new(address, self.local.is_ipv6())
    }

    /// Connects to `peer`.
    ///
    /// # Errors
    /// What the kernel says, such as that there is no route; then it is connected to nobody.
    pub(super) fn connect(&mut self, peer: SocketAddr) -> io::Result<()> {
        // From one peer to the next by way of nobody: the local address is chosen anew.
        if self.peer.is_some() {
            self.disconnect()?;
        }
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        self.set_peer(&self.name(peer))?;
        self.peer = Some(peer);
        Ok(())
    }

    /// Whether `peer` is whom it is connected to.
    pub(super) fn is_connected_to(&self, peer: SocketAddr) -> bool {
        self.peer.is_some_and(|old| old.ip() == peer.ip().to_canonical() && old.port() == peer.port())
    }

    /// Takes datagrams of everyone again.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn disconnect(&mut self) -> io::Result<()> {
        self.set_peer(&Name::NOBODY)?;
        self.peer = None;
        // A port that the kernel chose, and not the caller, is lost by disconnecting.
        if self.udp.local_addr()?.port() == self.local.port() {
            return Ok(());
        }
        let name = self.name(self.local);
        // SAFETY: `name` holds `len` readable bytes through the call.
        match unsafe { libc::bind(self.udp.as_raw_fd(), name.as_ptr(), name.len()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn set_peer(&self, name: &Name) -> io::Result<()> {
        // SAFETY: `name` holds `len` readable bytes through the call.
        match unsafe { libc::connect(self.udp.as_raw_fd(), name.as_ptr(), name.len()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Whether nothing waits in it now.
    pub(super) fn is_drained(&self) -> bool {
        self.udp.peek(&mut []).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Who a datagram is from, as the caller is told: `None` for the connected peer. The outer
    /// `None`: nobody who may send to this socket. The kernel keeps such out, but not those that
    /// came before the socket was connected.
    pub(super) fn admit(&self, from: Option<SocketAddr>) -> Option<Option<SocketAddr>> {
        let from = from?;
        match self.peer {
            None => Some(Some(from)),
            Some(peer) if peer.ip() == from.ip() && peer.port() == from.port() => Some(None),
            Some(_) => None,
        }
    }
}

/// Counts a send that failed with an error number.
pub(super) fn count_send_error(counters: &mut Counters, errno: i32) {
    match errno {
        libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM => counters.send_full += 1,
        libc::ECONNREFUSED => counters.send_refused += 1,
        libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENETDOWN | libc::EADDRNOTAVAIL => {
            counters.send_unreachable += 1
        }
        _ => counters.send_failed += 1,
    }
}

/// Counts a receive that failed with an error number.
pub(super) fn count_receive_error(counters: &mut Counters, errno: i32) {
    match errno {
        libc::ECONNREFUSED | libc::EHOSTUNREACH | libc::ENETUNREACH | libc::EPROTO => {
            counters.receive_refused += 1
        }
        _ => counters.receive_failed += 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(text: &str, v6: bool) -> SocketAddr {
        let name = Name::new(text.parse().expect("an address"), v6);
        Name::read(&name.bytes[..name.len as usize]).expect("an IP family")
    }

    #[test]
    fn addresses_go_to_the_kernel_and_back() {
        for (text, v6) in
            [("192.0.2.1:40000", false), ("192.0.2.1:40000", true), ("[2001:db8::1]:5004", true)]
        {
            assert_eq!(there_and_back(text, v6).to_string(), text);
        }
        assert_eq!(there_and_back("[fe80::1%3]:9", true).to_string(), "[fe80::1%3]:9");
    }

    #[test]
    fn short_or_foreign_names_are_nobody() {
        let name = Name::new("192.0.2.1:4".parse().expect("an address"), false);
        for len in 0..8 {
            assert_eq!(Name::read(&name.bytes[..len]), None);
        }
        let name = Name::new("[::1]:4".parse().expect("an address"), true);
        for len in 0..NAME_BYTES {
            assert_eq!(Name::read(&name.bytes[..len]), None);
        }
        assert_eq!(Name::read(&[0; NAME_BYTES]), None);
    }

    #[test]
    fn errors_are_counted_by_kind() {
        let mut counters = Counters::default();
        for errno in [libc::EAGAIN, libc::ECONNREFUSED, libc::ENETUNREACH, libc::EMSGSIZE] {
            count_send_error(&mut counters, errno);
        }
        count_receive_error(&mut counters, libc::ECONNREFUSED);
        count_receive_error(&mut counters, libc::EIO);
        let expected = Counters {
            send_full: 1,
            send_refused: 1,
            send_unreachable: 1,
            send_failed: 1,
            receive_refused: 1,
            receive_failed: 1,
            ..Counters::default()
        };
        assert_eq!(counters, expected);
    }
}
