//! SIP over UDP: one socket, read in batches, written at once.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::transport::{Counters, TransportEvent, bound_socket, canonical, count, mapped_for};
use crate::sip::{Flow, Transmit, Transport};

/// The largest datagram there is.
const DATAGRAM_MAX: usize = 65_535;
/// The id of our one listener: [`Flow`] counts them from 1.
const LISTENER: u32 = 1;
/// Datagrams read before other tasks get a turn.
const BATCH_MAX: usize = 64;
/// Datagrams that wait while the socket's own buffer is full.
const OVERFLOW_MAX: usize = 1_024;
/// Kernel buffer asked for each way: a burst of INVITEs must not be lost while a batch is handled.
const SOCKET_BUFFER: usize = 4 << 20;
/// Addresses of peers for which the way back is remembered.
const ROUTES_MAX: usize = 4_096;
/// How long it is remembered: interfaces come and go.
const ROUTES_KEPT: Duration = Duration::from_secs(30);

/// The sending half; receiving runs in a task of its own. Clones share the socket.
#[derive(Clone, Debug)]
pub struct UdpTransport {
    socket: Arc<std::net::UdpSocket>,
    family: SocketAddr,
    overflow: mpsc::Sender<(Bytes, SocketAddr)>,
    counters: Arc<Counters>,
}

/// Binds a UDP socket for SIP.
///
/// # Errors
/// What the system says, such as the address being in use.
pub fn listen(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = bound_socket(address, socket2::Type::DGRAM)?;
    // The kernel gives what its own limit allows; less only means bursts are retransmitted.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    Ok(socket.into())
}

impl UdpTransport {
    /// Starts to receive into `inbox`.
    ///
    /// # Errors
    /// When the socket cannot be registered with the runtime.
    pub fn start<E>(
        socket: std::net::UdpSocket,
        inbox: mpsc::Sender<E>,
        counters: Arc<Counters>,
    ) -> io::Result<Self>
    where
        E: From<TransportEvent> + Send + 'static,
    {
        let family = socket.local_addr()?;
        let receiver = Arc::new(tokio::net::UdpSocket::from_std(socket.try_clone()?)?);
        let (overflow, waiting) = mpsc::channel(OVERFLOW_MAX);
        tokio::spawn(send_waiting(receiver.clone(), waiting, counters.clone()));
        tokio::spawn(receive(receiver, family, inbox, counters.clone()));
        Ok(Self { socket: Arc::new(socket), family, overflow, counters })
    }

    /// Sends one datagram. When the socket's buffer is full it waits in a bounded queue; when that
    /// is full too it is dropped and counted, as the network itself might have.
    pub fn send(&self, transmit: Transmit) {
        let to = mapped_for(self.family, transmit.flow.remote);
        match self.socket.send_to(&transmit.bytes, to) {
            Ok(_) => count(&self.counters.udp_sent),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if self.overflow.try_send((transmit.bytes, to)).is_err() {
                    count(&self.counters.udp_send_full);
                }
            }
            Err(_) => count(&self.counters.udp_send_errors),
        }
    }
}

/// Sends what found the socket's buffer full. Ends with the last [`UdpTransport`].
async fn send_waiting(
    socket: Arc<tokio::net::UdpSocket>,
    mut waiting: mpsc::Receiver<(Bytes, SocketAddr)>,
    counters: Arc<Counters>,
) {
    while let Some((bytes, to)) = waiting.recv().await {
        match socket.send_to(&bytes, to).await {
            Ok(_) => count(&counters.udp_sent),
            Err(_) => count(&counters.udp_send_errors),
        }
    }
}

/// Reads datagrams until the inbox is gone.
async fn receive<E>(
    socket: Arc<tokio::net::UdpSocket>,
    bound: SocketAddr,
    inbox: mpsc::Sender<E>,
    counters: Arc<Counters>,
) where
    E: From<TransportEvent> + Send + 'static,
{
    let mut buffer = vec![0; DATAGRAM_MAX];
    let mut routes = Routes::new(bound);
    let mut forget = tokio::time::interval(ROUTES_KEPT);
    loop {
        tokio::select! {
            ready = socket.readable() => if ready.is_err() { return },
            _ = forget.tick() => { routes.forget(); continue }
            () = inbox.closed() => return,
        }
        for _ in 0..BATCH_MAX {
            let (length, remote) = match socket.try_recv_from(&mut buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // An ICMP error of an earlier send; it says nothing of what comes next.
                Err(_) => continue,
            };
            count(&counters.udp_received);
            let remote = canonical(remote);
            let flow =
                Flow { transport: Transport::Udp, id: LISTENER, local: routes.local_towards(remote), remote };
            let bytes = Bytes::copy_from_slice(buffer.get(..length).unwrap_or_default());
            match inbox.try_send(TransportEvent::Message { flow, bytes }.into()) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(_)) => count(&counters.udp_inbox_full),
                Err(mpsc::error::TrySendError::Closed(_)) => return,
            }
        }
    }
}

/// Which of our addresses each peer reaches us at: what Contact and SDP must say. A socket bound to
/// every address is not told, so the kernel's routes are asked, once per peer.
struct Routes {
    bound: SocketAddr,
    known: HashMap<IpAddr, IpAddr>,
}

impl Routes {
    fn new(bound: SocketAddr) -> Self {
        Self { bound: canonical(bound), known: HashMap::new() }
    }

    /// Our address and port as `remote` sees them. An unroutable peer gets the bound address.
    fn local_towards(&mut self, remote: SocketAddr) -> SocketAddr {
        if !self.bound.ip().is_unspecified() {
            return self.bound;
        }
        let known = self.known.get(&remote.ip()).copied();
        let ip = known.or_else(|| {
            let ip = address_towards(remote).ok()?;
            if self.known.len() >= ROUTES_MAX {
                self.known.clear();
            }
            self.known.insert(remote.ip(), ip);
            Some(ip)
        });
        SocketAddr::new(ip.unwrap_or(self.bound.ip()), self.bound.port())
    }

    fn forget(&mut self) {
        self.known.clear();
    }
}

/// The local address the kernel would send to `remote` from. A connected UDP socket sends nothing.
///
/// # Errors
/// When there is no route.
pub fn address_towards(remote: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr = match remote {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let probe = std::net::UdpSocket::bind((any, 0))?;
    probe.connect(remote)?;
    Ok(probe.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_on_this_machine_reaches_us_at_loopback() {
        let mut routes = Routes::new("0.0.0.0:5060".parse().expect("an address"));
        let remote = "127.0.0.1:7000".parse().expect("an address");
        assert_eq!(routes.local_towards(remote), "127.0.0.1:5060".parse().expect("an address"));
        assert_eq!(routes.known.len(), 1);
        routes.forget();
        assert!(routes.known.is_empty());
    }

    #[test]
    fn a_bound_address_is_what_every_peer_sees() {
        let bound = "192.0.2.1:5060".parse().expect("an address");
        let mut routes = Routes::new(bound);
        assert_eq!(routes.local_towards("198.51.100.9:5060".parse().expect("an address")), bound);
    }

    #[test]
    fn remembered_routes_are_bounded() {
        let mut routes = Routes::new("0.0.0.0:5060".parse().expect("an address"));
        for n in 0..ROUTES_MAX as u32 + 10 {
            let remote = SocketAddr::from((Ipv4Addr::from(0x7f00_0001 + n), 5060));
            routes.local_towards(remote);
        }
        assert!((1..=ROUTES_MAX).contains(&routes.known.len()), "{}", routes.known.len());
    }
}
