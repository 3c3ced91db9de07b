//! Where RTP sockets come from: a range of UDP ports, an even one for RTP and the odd one above it
//! for RTCP (RFC 3550 §11).

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;

use socket2::{Domain, Protocol, Socket, Type};

use crate::rng::Rng;

/// Ports tried for one pair before the range counts as exhausted. A scan of a whole range would
/// stop signalling for tens of milliseconds, at every call that is refused.
pub const TRIES_MAX: u32 = 2048;
/// What a socket may hold unread, in bytes as the kernel is asked (it doubles it): about two
/// seconds of G.711 packets, so a stalled thread loses nothing that would still be of use.
const RECEIVE_BUFFER_BYTES: usize = 64 * 1024;
/// DSCP EF (RFC 3246) in the place of the traffic class: audio goes first.
const TRAFFIC_CLASS: u32 = 0xB8;

/// Why no ports were opened.
#[derive(Debug, thiserror::Error)]
pub enum PortsError {
    /// The range holds no even port with the odd one after it.
    #[error("the RTP port range {0}-{1} holds no even port with the odd one above it")]
    RangeEmpty(u16, u16),
    /// All that were tried are in use.
    #[error("all RTP ports of {0}-{1} are in use")]
    RangeExhausted(u16, u16),
    /// The system refused a socket.
    #[error("no socket for RTP: {0}")]
    Io(#[from] io::Error),
}

/// The sockets of one leg. Dropping them frees the ports.
#[derive(Debug)]
pub struct PortPair {
    /// Bound to the even port.
    pub rtp: UdpSocket,
    /// Bound to the odd port above it; `None` when RTCP is multiplexed (RFC 5761).
    pub rtcp: Option<UdpSocket>,
    /// The even port.
    pub port: u16,
}

/// A range of ports, given out in turn.
#[derive(Debug)]
pub struct RtpPorts {
    range: RangeInclusive<u16>,
    bind: IpAddr,
    first: u16,
    pairs: u32,
    next: u32,
}

impl RtpPorts {
    /// Ports of `range` on the address `bind`, from a random one on: a restarted server does not
    /// meet the packets of its last calls.
    ///
    /// # Errors
    /// [`PortsError::RangeEmpty`].
    pub fn new(range: RangeInclusive<u16>, bind: IpAddr, rng: &mut Rng) -> Result<Self, PortsError> {
        let (low, high) = (u32::from(*range.start()), u32::from(*range.end()));
        let first = low.max(2).next_multiple_of(2);
        let pairs = (high + 1).saturating_sub(first) / 2;
        let first = match u16::try_from(first) {
            Ok(first) if pairs > 0 => first,
            _ => return Err(PortsError::RangeEmpty(*range.start(), *range.end())),
        };
        let next = rng.below(u64::from(pairs)) as u32;
        Ok(Self { range, bind, first, pairs, next })
    }

    /// The most pairs that can be open at once.
    pub fn capacity(&self) -> usize {
        self.pairs as usize
    }

    /// Opens the next free pair, or with `mux` its even port alone. Non-blocking, closed on exec.
    ///
    /// # Errors
    /// [`PortsError::RangeExhausted`] after `TRIES_MAX` ports in use, [`PortsError::Io`] when
    /// the process has no descriptor left or the address is not of this machine.
    pub fn open(&mut self, mux: bool) -> Result<PortPair, PortsError> {
        let mut rtp = None;
        for _ in 0..self.pairs.min(TRIES_MAX) {
            let port = self.first + 2 * self.next as u16;
            self.next = (self.next + 1) % self.pairs;
            // A socket that was refused a port is still unbound and good for the next.
            let socket = match rtp.take() {
                Some(socket) => socket,
                None => new_socket(self.bind)?,
            };
            if !bind(&socket, self.bind, port)? {
                rtp = Some(socket);
                continue;
            }
            let mut rtcp = None;
            if !mux {
                let socket = new_socket(self.bind)?;
                if !bind(&socket, self.bind, port + 1)? {
                    continue;
                }
                rtcp = Some(socket.into());
            }
            return Ok(PortPair { rtp: socket.into(), rtcp, port });
        }
        Err(PortsError::RangeExhausted(*self.range.start(), *self.range.end()))
    }
}

/// A UDP socket with the options of media, not bound yet.
fn new_socket(bind: IpAddr) -> io::Result<Socket> {
    let domain = if bind.is_ipv6() { Domain::IPV6 } else { Domain::IPV4 };
    let socket = Socket::new(domain, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
    if bind == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        socket.set_only_v6(false)?;
    }
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
    // The class is a wish: a system that refuses it still carries calls.
    if bind.is_ipv6() {
        let _ = socket.set_tclass_v6(TRAFFIC_CLASS);
    }
    let _ = socket.set_tos_v4(TRAFFIC_CLASS);
    Ok(socket)
}

/// Binds; `false` when somebody else has the port.
fn bind(socket: &Socket, ip: IpAddr, port: u16) -> io::Result<bool> {
    match socket.bind(&SocketAddr::new(ip, port).into()) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn ports(range: RangeInclusive<u16>) -> RtpPorts {
        RtpPorts::new(range, LOCALHOST, &mut Rng::from_number(1)).expect("a usable range")
    }

    fn port_of(socket: &UdpSocket) -> u16 {
        socket.local_addr().expect("it is bound").port()
    }

    #[test]
    fn a_pair_is_even_then_odd_and_a_muxed_leg_takes_one_socket() {
        let mut ports = ports(31_001..=31_040);
        let pair = ports.open(false).expect("free ports");
        assert_eq!(pair.port % 2, 0);
        assert!((31_002..31_040).contains(&pair.port));
        assert_eq!(port_of(&pair.rtp), pair.port);
        assert_eq!(pair.rtcp.as_ref().map(port_of), Some(pair.port + 1));
        let muxed = ports.open(true).expect("free ports");
        assert!(muxed.rtcp.is_none());
        UdpSocket::bind((LOCALHOST, muxed.port + 1)).expect("the odd port is left alone");
    }

    #[test]
    fn ports_go_round_the_range_from_a_random_start() {
        let mut first = ports(31_100..=31_139);
        let taken: Vec<u16> = (0..20).map(|_| first.open(true).expect("freed at once").port).collect();
        let mut sorted = taken.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (31_100..31_140).step_by(2).collect::<Vec<_>>());
        assert_eq!(first.open(true).expect("freed at once").port, taken[0]);
        let starts: std::collections::BTreeSet<u32> = (0..8)
            .map(|seed| {
                RtpPorts::new(31_100..=31_139, LOCALHOST, &mut Rng::from_number(seed)).expect("usable").next
            })
            .collect();
        assert!(starts.len() > 2);
    }

    #[test]
    fn ports_of_others_are_skipped_both_even_and_odd() {
        let mut ports = ports(31_200..=31_205);
        let _even = UdpSocket::bind((LOCALHOST, 31_200)).expect("free");
        let _odd = UdpSocket::bind((LOCALHOST, 31_203)).expect("free");
        for _ in 0..3 {
            assert_eq!(ports.open(false).expect("one pair is free").port, 31_204);
        }
    }

    #[test]
    fn an_exhausted_range_says_so_and_recovers_when_ports_are_dropped() {
        let mut ports = ports(31_300..=31_307);
        assert_eq!(ports.capacity(), 4);
        let mut pairs: Vec<_> = (0..4).map(|_| ports.open(false).expect("free")).collect();
        let error = ports.open(false).expect_err("none left");
        assert_eq!(error.to_string(), "all RTP ports of 31300-31307 are in use");
        let freed = pairs.remove(2).port;
        assert_eq!(ports.open(false).expect("one is free again").port, freed);
    }

    #[test]
    fn one_open_tries_a_limited_number_of_ports() {
        let mut ports = ports(12_000..=22_001);
        let start = ports.next;
        let blocker = std::net::Ipv4Addr::new(192, 0, 2, 1);
        ports.bind = IpAddr::V4(blocker);
        assert!(
            matches!(ports.open(true), Err(PortsError::Io(_))),
            "an address of another machine is no busy port"
        );
        assert_eq!(ports.next, (start + 1) % ports.pairs);
        assert!(ports.pairs > TRIES_MAX);
        let mut sockets = Vec::new();
        for step in 0..TRIES_MAX {
            let port = ports.first + 2 * ((ports.next + step) % ports.pairs) as u16;
            // One that is not ours to take is in use just as well.
            sockets.extend(UdpSocket::bind((LOCALHOST, port)));
        }
        ports.bind = LOCALHOST;
        let next = ports.next;
        assert!(matches!(ports.open(true), Err(PortsError::RangeExhausted(12_000, 22_001))));
        assert_eq!(ports.next, (next + TRIES_MAX) % ports.pairs);
        assert!(ports.open(true).is_ok(), "the next call goes on where this one stopped");
    }

    #[test]
    fn ranges_without_a_pair_are_refused() {
        for range in
            [4001..=4001, 4000..=4000, 4001..=4002, RangeInclusive::new(5000, 4000), 65_535..=65_535, 0..=1]
        {
            assert!(RtpPorts::new(range.clone(), LOCALHOST, &mut Rng::from_number(1)).is_err(), "{range:?}");
        }
        for (range, pairs) in [(4000..=4001, 1), (65_534..=65_535, 1), (0..=65_535, 32_767)] {
            assert_eq!(ports(range).capacity(), pairs);
        }
    }

    #[test]
    fn sockets_do_not_block_and_ask_for_low_delay() {
        let pair = ports(31_400..=31_439).open(true).expect("free ports");
        let error = pair.rtp.recv(&mut [0; 4]).expect_err("nothing was sent");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(Socket::from(pair.rtp).tos_v4().expect("an IPv4 socket"), TRAFFIC_CLASS);
    }
}
