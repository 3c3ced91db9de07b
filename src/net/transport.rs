//! The SIP transports as the control task sees them: one place to send, one stream of events. UDP
//! and TCP listen on the same address and port, as callers expect (RFC 3261 §18.2.1).

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::tcp::TcpTransport;
use super::udp::UdpTransport;
use crate::sip::{Flow, Transmit, Transport};

/// How often a pair of free ports is looked for when the port asked for is 0.
const PORT_TRIES_MAX: usize = 32;

/// News of a transport.
#[derive(Clone, Debug, PartialEq)]
pub enum TransportEvent {
    /// One SIP message: a datagram, or one framed out of a stream.
    Message {
        /// Where it came from and where its answer goes.
        flow: Flow,
        /// The message.
        bytes: Bytes,
    },
    /// A connection is gone, or could not be made.
    Closed {
        /// The flow that can no longer be used.
        flow: Flow,
    },
}

/// Where to listen and what to allow.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Address and port of UDP and TCP; port 0 for any that is free.
    pub listen: SocketAddr,
    /// TCP connections at once.
    pub max_connections: usize,
    /// TCP connections at once with one address.
    pub max_connections_per_source: usize,
    /// How long a connection may be silent both ways.
    pub idle_timeout: Duration,
    /// How long a peer may take over sending one message, or reading one of ours.
    pub message_timeout: Duration,
}

/// The [`Settings::message_timeout`] to use: 64·T1, when the transaction is over anyway (RFC 3261
/// §17.1.1.2).
pub const MESSAGE_TIMEOUT: Duration = Duration::from_secs(32);

/// An address that could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} over {transport}: {source}")]
pub struct BindError {
    /// `UDP` or `TCP`.
    pub transport: &'static str,
    /// The address.
    pub address: SocketAddr,
    /// What the system said.
    pub source: io::Error,
}

/// What the transports counted since the start; each limit has its own number.
#[derive(Debug, Default)]
pub struct Counters {
    /// Datagrams received.
    pub udp_received: AtomicU64,
    /// Datagrams sent.
    pub udp_sent: AtomicU64,
    /// Datagrams dropped because the control task's inbox was full.
    pub udp_inbox_full: AtomicU64,
    /// Datagrams dropped because the socket and the queue behind it were full.
    pub udp_send_full: AtomicU64,
    /// Datagrams the system refused to send.
    pub udp_send_errors: AtomicU64,
    /// Messages received over TCP.
    pub tcp_received: AtomicU64,
    /// Messages queued for a TCP connection.
    pub tcp_sent: AtomicU64,
    /// Connections open now.
    pub tcp_open: AtomicU64,
    /// Connections accepted.
    pub tcp_accepted: AtomicU64,
    /// Connections made by us.
    pub tcp_connected: AtomicU64,
    /// Connections we could not make.
    pub tcp_connect_failed: AtomicU64,
    /// Connections refused because there are too many.
    pub tcp_refused_total: AtomicU64,
    /// Connections refused because one address has too many.
    pub tcp_refused_source: AtomicU64,
    /// Connections closed because what came is no SIP.
    pub tcp_framing_errors: AtomicU64,
    /// Connections closed because a message took too long to arrive.
    pub tcp_slow_writers: AtomicU64,
    /// Connections closed because the peer does not read.
    pub tcp_slow_readers: AtomicU64,
    /// Connections closed because nothing moved.
    pub tcp_idle: AtomicU64,
    /// Messages dropped because the queue before the TCP task was full.
    pub tcp_orders_full: AtomicU64,
}

/// Adds one to a counter; counters carry no order.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// The bound SIP transports. Clones share them.
#[derive(Clone, Debug)]
pub struct Transports {
    udp: UdpTransport,
    tcp: TcpTransport,
    counters: Arc<Counters>,
    local: SocketAddr,
}

impl Transports {
    /// Binds UDP and TCP and starts to receive into `inbox`. When it is full, datagrams are dropped
    /// and counted – the peer sends them again – and connections are not read. Must be called
    /// inside a tokio runtime.
    ///
    /// # Errors
    /// The first address that could not be bound.
    pub fn bind<E>(settings: &Settings, inbox: &mpsc::Sender<E>) -> Result<Transports, BindError>
    where
        E: From<TransportEvent> + Send + 'static,
    {
        let counters = Arc::new(Counters::default());
        let tries = if settings.listen.port() == 0 { PORT_TRIES_MAX } else { 1 };
        let mut last = None;
        for _ in 0..tries {
            match Self::bind_once(settings, inbox, &counters) {
                Err(error) if error.transport == "TCP" => last = Some(error),
                done => return done,
            }
        }
        Err(last.expect("at least one try was made"))
    }

    /// Binds UDP, then TCP on the port that UDP got.
    fn bind_once<E>(
        settings: &Settings,
        inbox: &mpsc::Sender<E>,
        counters: &Arc<Counters>,
    ) -> Result<Transports, BindError>
    where
        E: From<TransportEvent> + Send + 'static,
    {
        let udp_socket = super::udp::listen(settings.listen).map_err(|source| BindError {
            transport: "UDP",
            address: settings.listen,
            source,
        })?;
        let mut address = settings.listen;
        address.set_port(udp_socket.local_addr().map_or(settings.listen.port(), |local| local.port()));
        let failed = |transport| move |source| BindError { transport, address, source };
        let tcp_listener = super::tcp::listen(address).map_err(failed("TCP"))?;
        let udp = UdpTransport::start(udp_socket, inbox.clone(), counters.clone()).map_err(failed("UDP"))?;
        let tcp = TcpTransport::start(
            tcp_listener,
            Settings { listen: address, ..settings.clone() },
            inbox.clone(),
            counters.clone(),
        )
        .map_err(failed("TCP"))?;
        Ok(Transports { udp, tcp, counters: counters.clone(), local: address })
    }

    /// Sends a message on its flow without waiting. What cannot be sent is dropped and counted; a
    /// TCP flow that is gone is connected anew, and reported closed if that fails.
    pub fn send(&self, transmit: Transmit) {
        match transmit.flow.transport {
            Transport::Udp => self.udp.send(transmit),
            Transport::Tcp => self.tcp.send(transmit),
        }
    }

    /// Holds to the limits of `settings` from now on; its address does not matter. Connections that are
    /// there stay.
    pub fn limit(&self, settings: &Settings) {
        self.tcp.limit(settings);
    }

    /// The address bound, with the real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// What was counted.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }
}

/// The address as its own family: IPv4 that came through an IPv6 socket becomes IPv4 again.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, address.port()),
        IpAddr::V6(_) => address,
    }
}

/// The address as a socket of `family`'s kind wants it: IPv4 through an IPv6 socket is mapped
/// (RFC 4291 §2.5.5.2).
pub(super) fn mapped_for(family: SocketAddr, address: SocketAddr) -> SocketAddr {
    match (family, address) {
        (SocketAddr::V6(_), SocketAddr::V4(v4)) => {
            let ip: Ipv6Addr = v4.ip().to_ipv6_mapped();
            SocketAddr::from((ip, v4.port()))
        }
        _ => address,
    }
}

/// A socket bound to `address`; `[::]` also takes IPv4.
pub(super) fn bound_socket(address: SocketAddr, kind: socket2::Type) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), kind, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    if kind == socket2::Type::STREAM {
        // Connections of the process before us may linger; a live listener is refused all the same.
        socket.set_reuse_address(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}
