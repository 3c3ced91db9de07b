//! On loopback, with real sockets; nothing sleeps, every wait has a limit.

use std::future::Future;
use std::net::Ipv6Addr;

use super::*;
use crate::net::transport::Transports;

const BODY: &[u8] =
    b"OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP c;branch=z9hG4bK1\r\nFrom: <sip:d@e>;tag=1\r\n\
    To: <sip:a@b>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 4\r\n\r\nbody";

/// Waits, but not for ever.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what).await.expect("it happens soon")
}

fn settings(listen: &str) -> Settings {
    Settings {
        listen: listen.parse().expect("an address"),
        max_connections: 8,
        max_connections_per_source: 4,
        idle_timeout: Duration::from_secs(60),
        message_timeout: Duration::from_secs(32),
    }
}

fn bind(settings: &Settings) -> (Transports, mpsc::Receiver<TransportEvent>) {
    let (inbox, events) = mpsc::channel(64);
    (Transports::bind(settings, &inbox).expect("loopback is free"), events)
}

fn is_closed(event: Option<TransportEvent>) -> bool {
    matches!(event, Some(TransportEvent::Closed { .. }))
}

async fn message(events: &mut mpsc::Receiver<TransportEvent>) -> (Flow, Bytes) {
    match soon(events.recv()).await {
        Some(TransportEvent::Message { flow, bytes }) => (flow, bytes),
        other => panic!("a message was expected, not {other:?}"),
    }
}

#[tokio::test]
async fn udp_and_tcp_share_a_port_and_answer_where_they_were_asked() {
    let (transports, mut events) = bind(&settings("127.0.0.1:0"));
    let address = transports.local_addr();
    let phone = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    phone.send_to(BODY, address).await.expect("loopback");
    let (flow, bytes) = message(&mut events).await;
    assert_eq!((flow.transport, flow.local), (Transport::Udp, address));
    assert_eq!(flow.remote, phone.local_addr().expect("bound"));
    assert_eq!(bytes, BODY);
    transports.send(Transmit { flow, bytes: Bytes::from_static(b"answer") });
    let mut answer = [0; 16];
    let (length, from) = soon(phone.recv_from(&mut answer)).await.expect("an answer");
    assert_eq!((&answer[..length], from), (&b"answer"[..], address));
    assert!(TcpStream::connect(address).await.is_ok());
}

#[tokio::test]
async fn a_wildcard_listener_tells_the_address_the_peer_used() {
    let (transports, mut events) = bind(&settings("[::]:0"));
    let port = transports.local_addr().port();
    for (from, to) in [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1")] {
        let to = SocketAddr::new(to.parse().expect("an address"), port);
        let phone = tokio::net::UdpSocket::bind(from).await.expect("a socket");
        phone.send_to(BODY, to).await.expect("loopback");
        let (flow, _) = message(&mut events).await;
        assert_eq!((flow.local, flow.remote), (to, phone.local_addr().expect("bound")));
        transports.send(Transmit { flow, bytes: Bytes::from_static(b"answer") });
        let mut answer = [0; 16];
        assert_eq!(soon(phone.recv(&mut answer)).await.expect("an answer"), 6);

        let mut stream = TcpStream::connect(to).await.expect("loopback");
        stream.write_all(BODY).await.expect("loopback");
        let (flow, _) = message(&mut events).await;
        assert_eq!((flow.local, flow.remote), (to, stream.local_addr().expect("connected")));
    }
}

#[tokio::test]
async fn a_stream_may_come_byte_by_byte_and_be_answered_after_its_end() {
    let (transports, mut events) = bind(&settings("127.0.0.1:0"));
    let mut stream = TcpStream::connect(transports.local_addr()).await.expect("loopback");
    stream.set_nodelay(true).expect("a socket");
    for byte in [BODY, BODY].concat() {
        stream.write_all(&[byte]).await.expect("loopback");
    }
    stream.shutdown().await.expect("half of it closes");
    let (flow, first) = message(&mut events).await;
    let (_, second) = message(&mut events).await;
    assert_eq!((&first[..], &second[..]), (BODY, BODY));
    transports.send(Transmit { flow, bytes: Bytes::from_static(b"answer") });
    let mut answer = [0; 6];
    soon(stream.read_exact(&mut answer)).await.expect("the other half is open");
    assert_eq!(&answer, b"answer");
    drop(stream);
    transports.send(Transmit { flow, bytes: Bytes::from_static(b"answer") });
    transports.send(Transmit { flow, bytes: Bytes::from_static(b"answer") });
    assert!(is_closed(soon(events.recv()).await));
}

#[tokio::test]
async fn what_is_no_sip_closes_the_connection_and_is_counted() {
    let (transports, mut events) = bind(&settings("127.0.0.1:0"));
    for nonsense in [&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], &[b'x'; 200_000]] {
        let mut stream = TcpStream::connect(transports.local_addr()).await.expect("loopback");
        // It may be closed before all is written.
        let _ = stream.write_all(nonsense).await;
        loop {
            match soon(events.recv()).await {
                Some(TransportEvent::Closed { .. }) => break,
                Some(TransportEvent::Message { .. }) => {}
                None => panic!("the transport is gone"),
            }
        }
    }
    assert!(transports.counters().tcp_framing_errors.load(Ordering::Relaxed) >= 1);
}

#[tokio::test]
async fn what_broke_the_stream_is_handed_up_and_its_answer_still_goes_out() {
    let (transports, mut events) = bind(&settings("127.0.0.1:0"));
    let mut stream = TcpStream::connect(transports.local_addr()).await.expect("loopback");
    let text =
        String::from_utf8_lossy(BODY).replace("Content-Length: 4", "Content-Length: 4\r\nContent-Length: 5");
    stream.write_all(text.as_bytes()).await.expect("loopback");
    let (flow, head) = message(&mut events).await;
    assert!(head.starts_with(b"OPTIONS "), "the endpoint can answer it 400");
    transports.send(Transmit { flow, bytes: Bytes::from_static(b"answer") });
    let mut answer = [0; 6];
    soon(stream.read_exact(&mut answer)).await.expect("the answer comes before the end");
    assert!(is_closed(soon(events.recv()).await));
    assert_eq!(transports.counters().tcp_framing_errors.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn connections_of_one_source_are_limited_and_freed_again() {
    let (transports, mut events) = bind(&settings("127.0.0.1:0"));
    let mut streams = Vec::new();
    for _ in 0..4 {
        let mut stream = TcpStream::connect(transports.local_addr()).await.expect("loopback");
        stream.write_all(BODY).await.expect("loopback");
        message(&mut events).await;
        streams.push(stream);
    }
    let mut fifth = TcpStream::connect(transports.local_addr()).await.expect("the kernel accepts");
    let closed = soon(fifth.read(&mut [0; 1])).await;
    assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
    assert_eq!(transports.counters().tcp_refused_source.load(Ordering::Relaxed), 1);
    // A reset is noticed at once; a half-closed peer might still want its answers.
    let leaving = streams.pop().expect("four");
    socket2::SockRef::from(&leaving).set_linger(Some(Duration::ZERO)).expect("a socket");
    drop(leaving);
    assert!(is_closed(soon(events.recv()).await));
    let again = async {
        loop {
            let mut stream = TcpStream::connect(transports.local_addr()).await.expect("loopback");
            let _ = stream.write_all(BODY).await;
            if let Ok(Some(TransportEvent::Message { .. })) =
                tokio::time::timeout(Duration::from_millis(100), events.recv()).await
            {
                break;
            }
        }
    };
    soon(again).await;
}

#[tokio::test]
async fn all_connections_together_are_limited() {
    let mut settings = settings("127.0.0.1:0");
    settings.max_connections = 2;
    let (transports, mut events) = bind(&settings);
    let mut streams = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(transports.local_addr()).await.expect("loopback");
        stream.write_all(BODY).await.expect("loopback");
        message(&mut events).await;
        streams.push(stream);
    }
    let mut third = TcpStream::connect(transports.local_addr()).await.expect("the kernel accepts");
    let closed = soon(third.read(&mut [0; 1])).await;
    assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
    assert_eq!(transports.counters().tcp_refused_total.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_closed_and_costs_no_one_else() {
    let (transports, mut events) = bind(&settings("127.0.0.1:0"));
    let mut deaf = TcpStream::connect(transports.local_addr()).await.expect("loopback");
    deaf.write_all(BODY).await.expect("loopback");
    let (flow, _) = message(&mut events).await;
    let big = Bytes::from(vec![b'x'; 60_000]);
    let flood = async {
        while transports.counters().tcp_slow_readers.load(Ordering::Relaxed) == 0 {
            transports.send(Transmit { flow, bytes: big.clone() });
            tokio::task::yield_now().await;
        }
    };
    soon(flood).await;
    assert!(is_closed(soon(events.recv()).await));
    let mut other = TcpStream::connect(transports.local_addr()).await.expect("loopback");
    other.write_all(BODY).await.expect("loopback");
    assert_eq!(message(&mut events).await.1, BODY);
}

#[tokio::test]
async fn a_flow_that_is_gone_is_connected_anew_or_reported() {
    let (transports, mut events) = bind(&settings("127.0.0.1:0"));
    let phone = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.expect("a port");
    let remote = phone.local_addr().expect("bound");
    let flow = Flow { transport: Transport::Tcp, id: Flow::ANY, local: transports.local_addr(), remote };
    transports.send(Transmit { flow, bytes: Bytes::from_static(BODY) });
    transports.send(Transmit { flow, bytes: Bytes::from_static(BODY) });
    let (mut stream, _) = soon(phone.accept()).await.expect("it connects");
    let mut got = vec![0; 2 * BODY.len()];
    soon(stream.read_exact(&mut got)).await.expect("both messages");
    stream.write_all(BODY).await.expect("loopback");
    let (answer_flow, _) = message(&mut events).await;
    assert_eq!(answer_flow.remote, remote);
    assert_ne!(answer_flow.id, Flow::ANY);

    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("bound");
    let flow = Flow { remote: nobody, ..flow };
    transports.send(Transmit { flow, bytes: Bytes::from_static(BODY) });
    assert_eq!(soon(events.recv()).await, Some(TransportEvent::Closed { flow }));
    assert_eq!(transports.counters().tcp_connect_failed.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_message_that_trickles_and_a_silent_connection_are_given_up() {
    let mut settings = settings("127.0.0.1:0");
    settings.idle_timeout = Duration::from_millis(60);
    settings.message_timeout = Duration::from_millis(30);
    let (transports, mut events) = bind(&settings);
    let mut slow = TcpStream::connect(transports.local_addr()).await.expect("loopback");
    slow.write_all(&BODY[..40]).await.expect("loopback");
    let _silent = TcpStream::connect(transports.local_addr()).await.expect("loopback");
    assert!(is_closed(soon(events.recv()).await));
    assert!(is_closed(soon(events.recv()).await));
    assert_eq!(transports.counters().tcp_slow_writers.load(Ordering::Relaxed), 1);
    assert_eq!(transports.counters().tcp_idle.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_full_inbox_drops_datagrams_counted_and_holds_streams_back() {
    let (inbox, mut events) = mpsc::channel::<TransportEvent>(1);
    let transports = Transports::bind(&settings("127.0.0.1:0"), &inbox).expect("loopback is free");
    let mut stream = TcpStream::connect(transports.local_addr()).await.expect("loopback");
    stream.write_all(&BODY.repeat(20)).await.expect("loopback");
    while inbox.capacity() > 0 {
        tokio::task::yield_now().await;
    }
    let phone = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    phone.send_to(BODY, transports.local_addr()).await.expect("loopback");
    let dropped = async {
        while transports.counters().udp_inbox_full.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
    };
    soon(dropped).await;
    for _ in 0..20 {
        assert_eq!(message(&mut events).await.0.transport, Transport::Tcp);
    }
}

#[tokio::test]
async fn a_port_in_use_is_told_with_its_transport() {
    let (first, _events) = bind(&settings("127.0.0.1:0"));
    let (inbox, _second_events) = mpsc::channel::<TransportEvent>(1);
    let error = Transports::bind(&settings(&first.local_addr().to_string()), &inbox).expect_err("in use");
    assert_eq!((error.transport, error.source.kind()), ("UDP", io::ErrorKind::AddrInUse));
}
