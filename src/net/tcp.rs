//! SIP over TCP: a listener and a task that owns every connection by its id. A connection is one
//! task that reads messages out of the stream and writes what is queued for it.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::transport::{Counters, Settings, TransportEvent, bound_socket, canonical, count};
use crate::sip::{Flow, Framer, Transmit, Transport};

/// Connections the kernel keeps while we are busy.
const BACKLOG: i32 = 1_024;
/// Messages that wait for the task which owns the connections.
const ORDERS_MAX: usize = 8_192;
/// Messages that wait for one connection; a peer that lets more pile up does not read.
const QUEUE_MAX: usize = 256;
/// Bytes read at once.
const READ_MAX: usize = 4_096;
/// How long a connection we make may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a peer that has sent its last byte may still wait for answers.
const HALF_CLOSED_TIMEOUT: Duration = Duration::from_secs(32);
/// How long a connection that stopped being SIP stays open for our answer to that.
const REFUSAL_TIMEOUT: Duration = Duration::from_millis(500);
/// How long we wait when the system has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Silence after which the kernel asks whether the peer is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// The sending half: messages go to the task that owns the connections. Clones share it.
#[derive(Clone, Debug)]
pub struct TcpTransport {
    orders: mpsc::Sender<Transmit>,
    /// The limits that its connections are held to.
    change: watch::Sender<Settings>,
    counters: Arc<Counters>,
}

/// Binds a TCP listener for SIP.
///
/// # Errors
/// What the system says, such as the address being in use.
pub fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = bound_socket(address, socket2::Type::STREAM)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

impl TcpTransport {
    /// Starts to accept, and to receive into `inbox`.
    ///
    /// # Errors
    /// When the listener cannot be registered with the runtime.
    pub fn start<E>(
        listener: std::net::TcpListener,
        settings: Settings,
        inbox: mpsc::Sender<E>,
        counters: Arc<Counters>,
    ) -> io::Result<Self>
    where
        E: From<TransportEvent> + Send + 'static,
    {
        let listener = TcpListener::from_std(listener)?;
        let (orders, receiver) = mpsc::channel(ORDERS_MAX);
        let (change, settings) = watch::channel(settings);
        let owner = Owner {
            settings,
            inbox,
            counters: counters.clone(),
            peers: HashMap::new(),
            by_remote: HashMap::new(),
            per_source: HashMap::new(),
            tasks: JoinSet::new(),
            next_id: 1,
        };
        tokio::spawn(owner.run(listener, receiver));
        Ok(Self { orders, change, counters })
    }

    /// Holds to other limits from now on.
    pub fn limit(&self, settings: &Settings) {
        self.change.send_modify(|old| *old = Settings { listen: old.listen, ..settings.clone() });
    }

    /// Queues a message for its connection, or for a new one when that is gone.
    pub fn send(&self, transmit: Transmit) {
        if self.orders.try_send(transmit).is_err() {
            count(&self.counters.tcp_orders_full);
        }
    }
}

/// A connection as its owner knows it.
struct Peer {
    remote: SocketAddr,
    queue: mpsc::Sender<Bytes>,
    close: CancellationToken,
}

/// The one owner of all connections.
struct Owner<E> {
    settings: watch::Receiver<Settings>,
    inbox: mpsc::Sender<E>,
    counters: Arc<Counters>,
    peers: HashMap<u32, Peer>,
    by_remote: HashMap<SocketAddr, u32>,
    per_source: HashMap<IpAddr, usize>,
    tasks: JoinSet<u32>,
    next_id: u32,
}

impl<E: From<TransportEvent> + Send + 'static> Owner<E> {
    /// Accepts, sends and tidies up until the last [`TcpTransport`] is dropped; then every
    /// connection is closed once its queue is written.
    async fn run(mut self, listener: TcpListener, mut orders: mpsc::Receiver<Transmit>) {
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(transmit) => self.transmit(transmit).await,
                    None => break,
                },
                accepted = listener.accept() => match accepted {
                    Ok((stream, remote)) => self.accept(stream, canonical(remote)),
                    Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
                },
                Some(ended) = self.tasks.join_next() => self.forget(ended.ok()),
            }
        }
        self.peers.clear();
        // Bounded: a peer that does not read is given up after `message_timeout`.
        while self.tasks.join_next().await.is_some() {}
    }

    /// Takes a new connection, unless there are too many.
    fn accept(&mut self, stream: TcpStream, remote: SocketAddr) {
        if let Some((flow, queue, close)) = self.admit(remote) {
            count(&self.counters.tcp_accepted);
            let connection = self.connection(flow, queue, close);
            self.tasks.spawn(connection.run(stream));
        }
    }

    /// Sends on the flow's connection, else on another one with the same peer, else on a new one
    /// (RFC 3261 §18.1.1, §18.2.2).
    async fn transmit(&mut self, transmit: Transmit) {
        let Flow { id, remote, .. } = transmit.flow;
        let known = self.peers.get(&id).filter(|peer| peer.remote == remote).map(|_| id);
        let id = match known.or_else(|| self.by_remote.get(&remote).copied()) {
            Some(id) => id,
            None => match self.connect(transmit.flow) {
                Some(id) => id,
                None => {
                    // Nobody is there to hear of it when the inbox is gone.
                    let _ = self.inbox.send(TransportEvent::Closed { flow: transmit.flow }.into()).await;
                    return;
                }
            },
        };
        let Some(peer) = self.peers.get(&id) else {
            return;
        };
        match peer.queue.try_send(transmit.bytes) {
            Ok(()) => count(&self.counters.tcp_sent),
            Err(mpsc::error::TrySendError::Full(_)) => {
                if !peer.close.is_cancelled() {
                    count(&self.counters.tcp_slow_readers);
                }
                peer.close.cancel();
            }
            // It is closing; its `Closed` is on the way.
            Err(mpsc::error::TrySendError::Closed(_)) => {}
        }
    }

    /// Begins a connection to the peer of `asked`; messages queue until it is made.
    fn connect(&mut self, asked: Flow) -> Option<u32> {
        let (flow, queue, close) = self.admit(asked.remote)?;
        let connection = self.connection(flow, queue, close);
        self.tasks.spawn(connection.connect(asked));
        Some(flow.id)
    }

    /// Gives a connection its id and queue, unless there are too many.
    fn admit(&mut self, remote: SocketAddr) -> Option<(Flow, mpsc::Receiver<Bytes>, CancellationToken)> {
        let settings = self.settings.borrow().clone();
        if self.peers.len() >= settings.max_connections {
            count(&self.counters.tcp_refused_total);
            return None;
        }
        let of_source = self.per_source.entry(remote.ip()).or_default();
        if *of_source >= settings.max_connections_per_source {
            count(&self.counters.tcp_refused_source);
            return None;
        }
        *of_source += 1;
        while self.next_id == 0 || self.peers.contains_key(&self.next_id) {
            self.next_id = self.next_id.wrapping_add(1);
        }
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        let close = CancellationToken::new();
        self.peers.insert(id, Peer { remote, queue, close: close.clone() });
        self.by_remote.insert(remote, id);
        self.publish_open();
        let flow = Flow { transport: Transport::Tcp, id, local: settings.listen, remote };
        Some((flow, waiting, close))
    }

    /// Forgets a connection that has ended.
    fn forget(&mut self, ended: Option<u32>) {
        // A task that panicked cannot say who it was; its queue is closed, and so it is found.
        let gone: Vec<u32> = match ended {
            Some(id) => vec![id],
            None => self.peers.iter().filter(|(_, peer)| peer.queue.is_closed()).map(|(id, _)| *id).collect(),
        };
        for id in gone {
            let Some(peer) = self.peers.remove(&id) else {
                continue;
            };
            if self.by_remote.get(&peer.remote) == Some(&id) {
                self.by_remote.remove(&peer.remote);
            }
            if let Some(of_source) = self.per_source.get_mut(&peer.remote.ip()) {
                *of_source -= 1;
                if *of_source == 0 {
                    self.per_source.remove(&peer.remote.ip());
                }
            }
        }
        self.publish_open();
    }

    fn publish_open(&self) {
        self.counters.tcp_open.store(self.peers.len() as u64, Ordering::Relaxed);
    }

    fn connection(
        &self,
        flow: Flow,
        queue: mpsc::Receiver<Bytes>,
        close: CancellationToken,
    ) -> Connection<E> {
        let settings = self.settings.borrow();
        Connection {
            flow,
            queue,
            close,
            patience: Patience { idle: settings.idle_timeout, message: settings.message_timeout },
            inbox: self.inbox.clone(),
            counters: self.counters.clone(),
        }
    }
}

/// One connection, as its own task runs it.
struct Connection<E> {
    flow: Flow,
    queue: mpsc::Receiver<Bytes>,
    close: CancellationToken,
    patience: Patience,
    inbox: mpsc::Sender<E>,
    counters: Arc<Counters>,
}

/// How long we wait for a peer.
#[derive(Clone, Copy)]
struct Patience {
    /// Between messages.
    idle: Duration,
    /// Within one.
    message: Duration,
}

impl<E: From<TransportEvent> + Send + 'static> Connection<E> {
    /// Makes the connection, then runs it. Returns its id. When it cannot be made, the flow that
    /// was `asked` for is reported closed: its sender knows no other.
    async fn connect(mut self, asked: Flow) -> u32 {
        match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(self.flow.remote)).await {
            Ok(Ok(stream)) => {
                count(&self.counters.tcp_connected);
                self.run(stream).await
            }
            _ => {
                count(&self.counters.tcp_connect_failed);
                let id = std::mem::replace(&mut self.flow, asked).id;
                self.report_closed().await;
                id
            }
        }
    }

    /// Reads and writes until either ends. Returns its id.
    async fn run(mut self, stream: TcpStream) -> u32 {
        let id = self.flow.id;
        self.flow.local = stream.local_addr().map_or(self.flow.local, canonical);
        // Small messages must not wait for each other; both are wishes, not needs.
        let _ = stream.set_nodelay(true);
        let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4);
        let _ = socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive);
        let (read, write) = stream.into_split();
        let written = AtomicU64::new(0);
        tokio::select! {
            () = receive(read, self.flow, &self.inbox, self.patience, &written, &self.counters) => {}
            () = transmit(write, &mut self.queue, self.patience, &written, &self.counters) => {}
            () = self.close.cancelled() => {}
        }
        self.report_closed().await;
        id
    }

    async fn report_closed(self) {
        // Nobody is there to hear of it when the inbox is gone.
        let _ = self.inbox.send(TransportEvent::Closed { flow: self.flow }.into()).await;
    }
}

/// Writes what is queued, message by message, until the queue or the connection ends.
async fn transmit(
    mut write: OwnedWriteHalf,
    queue: &mut mpsc::Receiver<Bytes>,
    patience: Patience,
    written: &AtomicU64,
    counters: &Counters,
) {
    while let Some(bytes) = queue.recv().await {
        match tokio::time::timeout(patience.message, write.write_all(&bytes)).await {
            Ok(Ok(())) => {
                written.fetch_add(1, Ordering::Relaxed);
            }
            Ok(Err(_)) => return,
            Err(_) => return count(&counters.tcp_slow_readers),
        }
    }
}

/// Reads messages out of the stream until it ends, breaks, stalls or stops being SIP. A full inbox
/// stops the reading, and so, in time, the peer.
async fn receive<E: From<TransportEvent>>(
    mut read: OwnedReadHalf,
    flow: Flow,
    inbox: &mpsc::Sender<E>,
    patience: Patience,
    written: &AtomicU64,
    counters: &Counters,
) {
    let mut framer = Framer::new();
    let mut buffer = vec![0; READ_MAX];
    let mut written_before = 0;
    // Bytes came since the last whole message, and not just the line ends that keep a flow alive.
    let mut mid_message = false;
    let deadline = tokio::time::sleep(patience.idle);
    tokio::pin!(deadline);
    loop {
        let length = tokio::select! {
            result = read.read(&mut buffer) => match result {
                // The peer sends no more but may read on (RFC 9293 §3.6).
                Ok(0) => return tokio::time::sleep(HALF_CLOSED_TIMEOUT).await,
                Ok(length) => length,
                Err(_) => return,
            },
            () = &mut deadline => {
                let written_now = written.load(Ordering::Relaxed);
                if mid_message {
                    return count(&counters.tcp_slow_writers);
                }
                if written_now == written_before {
                    return count(&counters.tcp_idle);
                }
                written_before = written_now;
                deadline.set(tokio::time::sleep(patience.idle));
                continue;
            }
        };
        let bytes = buffer.get(..length).unwrap_or_default();
        let (messages, failed) = frame(&mut framer, bytes);
        let is_whole = !messages.is_empty();
        let is_keep_alive = bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n'));
        for bytes in messages {
            count(&counters.tcp_received);
            if inbox.send(TransportEvent::Message { flow, bytes }.into()).await.is_err() {
                return;
            }
        }
        if failed {
            count(&counters.tcp_framing_errors);
            return wait_for_refusal(read, &mut buffer).await;
        }
        // Within a message the deadline stays: a byte now and then is not progress.
        if is_whole || (is_keep_alive && !mid_message) {
            mid_message = false;
            deadline.set(tokio::time::sleep(patience.idle));
        } else if !mid_message {
            mid_message = true;
            deadline.set(tokio::time::sleep(patience.message));
        }
    }
}

/// Every message that `bytes` completes, and whether the stream is of no more use. Its last message
/// may be one that the endpoint answers 400.
fn frame(framer: &mut Framer, bytes: &[u8]) -> (Vec<Bytes>, bool) {
    let mut messages = Vec::new();
    if framer.extend(bytes).is_err() {
        return (messages, true);
    }
    while let Some(next) = framer.next_message() {
        match next {
            Ok(message) => messages.push(message),
            Err(_) => return (messages, true),
        }
    }
    (messages, false)
}

/// Gives the answer to what broke the stream time to be written. What still comes is thrown away: a
/// connection closed with bytes unread is reset, and the answer with it.
async fn wait_for_refusal(mut read: OwnedReadHalf, buffer: &mut [u8]) {
    let drained = async { while read.read(buffer).await.is_ok_and(|length| length > 0) {} };
    // Either way the connection ends now.
    let _ = tokio::time::timeout(REFUSAL_TIMEOUT, drained).await;
}

#[cfg(test)]
mod tests;
