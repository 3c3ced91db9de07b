//! Both drivers on loopback, through the same tests. Nothing sleeps: what takes the kernel time is
//! polled for until a deadline.

mod express;
#[path = "../../../tests/support/network.rs"]
mod network;

use std::cell::Cell;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use super::{Backend, Counters, DATAGRAM_MAX, Interface, MediaIo, SWEEPS, SocketKey};
use crate::net::clock::Clock;
use crate::time::Duration;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(5);
/// Sockets of the test of a burst, as many as one media thread has.
const CROWD: usize = 2000;

thread_local! {
    /// Whether drivers get the express path, this thread being in a network of its own.
    static IS_EXPRESS: Cell<bool> = const { Cell::new(false) };
}

/// Runs a test with the express path. Where this user may not have one, the test says so and is not
/// run.
fn on_the_express_path(test: impl FnOnce() + Send) {
    network::in_own(|| match Interface::attach("lo") {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            eprintln!("not run: this user may not have an express path ({error})");
        }
        interface => {
            drop(interface.expect("the kernel has AF_XDP"));
            IS_EXPRESS.set(true);
            test();
        }
    });
}

/// A driver and what it has delivered.
struct Bench {
    io: MediaIo,
    seen: Vec<(u32, Option<SocketAddr>, Vec<u8>)>,
}

impl Bench {
    fn new(backend: Backend, capacity: usize) -> Self {
        let mut io = MediaIo::open(backend, capacity).expect("the driver opens");
        if IS_EXPRESS.get() {
            let interface = Interface::attach("lo").expect("nobody else is attached to it");
            assert!(io.attach(Arc::new(interface), 0).expect("nobody else has the queue"));
        }
        Self { io, seen: Vec::new() }
    }

    fn add(&mut self, token: u32) -> (SocketKey, SocketAddr) {
        let socket = bound_v4();
        let address = socket.local_addr().expect("it is bound");
        (self.io.add(socket, token).expect("there is room"), address)
    }

    fn poll(&mut self) {
        let seen = &mut self.seen;
        self.io.poll(|token, from, bytes| seen.push((token, from, bytes.to_vec())));
    }

    fn poll_sweep(&mut self, sweep: usize) {
        let seen = &mut self.seen;
        self.io.poll_sweep(sweep, |token, from, bytes| seen.push((token, from, bytes.to_vec())));
    }

    /// Polls, also all sweeps, until `done`.
    fn until(&mut self, done: impl Fn(&Self) -> bool) {
        let clock = Clock::new();
        let deadline = clock.now() + PATIENCE;
        while !done(self) {
            assert!(clock.now() < deadline, "nothing came: {:?}", self.io);
            self.poll();
            if !done(self) {
                (0..SWEEPS).for_each(|sweep| self.poll_sweep(sweep));
            }
        }
    }

    /// Polls until `count` datagrams have come, and takes them.
    fn take(&mut self, count: usize) -> Vec<(u32, Option<SocketAddr>, Vec<u8>)> {
        self.until(|bench| bench.seen.len() >= count);
        std::mem::take(&mut self.seen)
    }

    /// What has come once a datagram to a socket of its own has made the round: loopback keeps
    /// the order, so whatever was sent before has come or never will.
    fn settled(&mut self) -> Vec<(u32, Option<SocketAddr>, Vec<u8>)> {
        const MARK: u32 = u32::MAX;
        let (key, address) = self.add(MARK);
        bound_v4().send_to(b"mark", address).expect("loopback takes it");
        let clock = Clock::new();
        let deadline = clock.now() + PATIENCE;
        while !self.seen.iter().any(|&(token, ..)| token == MARK) {
            assert!(clock.now() < deadline, "nothing came: {:?}", self.io);
            self.poll();
        }
        self.io.remove(key);
        let mut seen = std::mem::take(&mut self.seen);
        seen.retain(|&(token, ..)| token != MARK);
        seen
    }
}

fn bound_v4() -> UdpSocket {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has free ports")
}

/// A socket of the other side, which gives up after [`PATIENCE`].
fn phone() -> (UdpSocket, SocketAddr) {
    let socket = bound_v4();
    socket.set_read_timeout(Some(PATIENCE)).expect("it is not zero");
    let address = socket.local_addr().expect("it is bound");
    (socket, address)
}

fn heard(phone: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 2048];
    let (len, from) = phone.recv_from(&mut buffer).expect("it comes");
    (buffer[..len].to_vec(), from)
}

fn sends_and_receives_before_and_after_connecting(backend: Backend) {
    let mut bench = Bench::new(backend, 8);
    let (key, address) = bench.add(7);
    let (phone, phone_address) = phone();
    phone.send_to(b"one", address).expect("loopback takes it");
    assert_eq!(bench.take(1), [(7, Some(phone_address), b"one".to_vec())]);
    bench.io.send(key, phone_address, b"two");
    bench.io.flush();
    assert_eq!(heard(&phone), (b"two".to_vec(), address));

    bench.io.connect(key, phone_address).expect("loopback has a route");
    for _ in 0..3 {
        phone.send_to(b"three", address).expect("loopback takes it");
        assert_eq!(bench.take(1), [(7, None, b"three".to_vec())]);
    }
    bench.io.send(key, phone_address, b"four");
    bench.io.flush();
    assert_eq!(heard(&phone), (b"four".to_vec(), address));
    let counters = bench.io.counters();
    assert_eq!((counters.received, counters.sent), (4, 2));
    assert!(counters.syscalls > 0);
}

fn keeps_third_parties_out_once_connected(backend: Backend) {
    let mut bench = Bench::new(backend, 8);
    let (key, address) = bench.add(1);
    let ((peer, peer_address), (third, third_address)) = (phone(), phone());
    // This one waits in the socket while it is connected: the kernel does not take it back.
    third.send_to(b"early", address).expect("loopback takes it");
    bench.io.connect(key, peer_address).expect("loopback has a route");
    // An ICMP error may answer the third party; both outcomes are the kernel's.
    let _ = third.send_to(b"late", address);
    peer.send_to(b"mine", address).expect("loopback takes it");
    assert_eq!(bench.settled(), [(1, None, b"mine".to_vec())]);
    assert_eq!(bench.io.counters().foreign, 1);

    // A datagram to someone else goes there although the socket is connected.
    bench.io.send(key, third_address, b"aside");
    bench.io.flush();
    assert_eq!(heard(&third), (b"aside".to_vec(), address));

    // Also in the form that is used once all is quiet.
    for _ in 0..3 {
        peer.send_to(b"mine", address).expect("loopback takes it");
        let _ = third.send_to(b"late", address);
        assert_eq!(bench.settled(), [(1, None, b"mine".to_vec())]);
    }
    peer.send_to(b"queued", address).expect("loopback takes it");
    bench.io.disconnect(key).expect("it is in");
    third.send_to(b"now", address).expect("loopback takes it");
    let expected = [(1, Some(peer_address), b"queued".to_vec()), (1, Some(third_address), b"now".to_vec())];
    assert_eq!(bench.settled(), expected);
    let (other, other_address) = phone();
    other.send_to(b"again", address).expect("loopback takes it");
    assert_eq!(bench.settled(), [(1, Some(other_address), b"again".to_vec())]);
    bench.io.connect(key, other_address).expect("loopback has a route");
    bench.io.connect(key, peer_address).expect("from one peer to the next");
    peer.send_to(b"back", address).expect("loopback takes it");
    assert_eq!(bench.settled(), [(1, None, b"back".to_vec())]);
}

fn delivers_nothing_of_a_removed_socket_under_a_new_key(backend: Backend) {
    let mut bench = Bench::new(backend, 1);
    let (phone, phone_address) = phone();
    let mut keys = Vec::new();
    for round in 0..50 {
        let (key, address) = bench.add(round);
        phone.send_to(b"stale", address).expect("loopback takes it");
        bench.io.remove(key);
        keys.push(key);
    }
    let (key, address) = bench.add(100);
    phone.send_to(b"fresh", address).expect("loopback takes it");
    assert_eq!(bench.take(1), [(100, Some(phone_address), b"fresh".to_vec())]);
    assert_eq!(bench.io.len(), 1);

    // Old keys are without effect.
    for &old in &keys {
        assert_ne!(old, key);
        bench.io.send(old, phone_address, b"wrong");
        bench.io.remove(old);
        assert!(bench.io.connect(old, phone_address).is_err());
        assert!(bench.io.disconnect(old).is_err());
    }
    bench.io.send(key, phone_address, b"right");
    bench.io.flush();
    assert_eq!(heard(&phone).0, b"right");
    assert_eq!(bench.io.counters().stale, 4 * 50);
}

fn sends_what_was_queued_before_a_removal_and_frees_the_port(backend: Backend) {
    let mut bench = Bench::new(backend, 2);
    let (key, address) = bench.add(1);
    let (phone, phone_address) = phone();
    bench.io.send(key, phone_address, b"bye");
    bench.io.remove(key);
    assert!(bench.io.is_empty());
    bench.poll();
    assert_eq!(heard(&phone).0, b"bye");
    UdpSocket::bind(address).expect("the port is free after the poll");
}

fn a_refusing_peer_does_not_end_a_socket(backend: Backend) {
    let mut bench = Bench::new(backend, 4);
    let (key, address) = bench.add(1);
    let gone = bound_v4();
    let gone_address = gone.local_addr().expect("it is bound");
    drop(gone);
    bench.io.connect(key, gone_address).expect("loopback has a route");
    for _ in 0..20 {
        bench.io.send(key, gone_address, b"anyone?");
        bench.io.flush();
        bench.poll();
    }
    let errors = |counters: Counters| counters.send_refused + counters.receive_refused;
    bench.until(|bench| errors(bench.io.counters()) > 0);
    // It comes back: both ways work.
    let phone = UdpSocket::bind(gone_address).expect("still free");
    phone.set_read_timeout(Some(PATIENCE)).expect("it is not zero");
    bench.poll();
    bench.io.send(key, gone_address, b"there");
    bench.io.flush();
    bench.io.send(key, gone_address, b"there");
    bench.io.flush();
    assert_eq!(heard(&phone), (b"there".to_vec(), address));
    phone.send_to(b"here", address).expect("loopback takes it");
    assert_eq!(bench.take(1), [(1, None, b"here".to_vec())]);
}

fn speaks_ipv6_and_both_on_one_socket(backend: Backend) {
    let mut bench = Bench::new(backend, 4);
    let phone = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).expect("IPv6 loopback");
    phone.set_read_timeout(Some(PATIENCE)).expect("it is not zero");
    let phone_address = phone.local_addr().expect("it is bound");
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).expect("IPv6");
    let port = socket.local_addr().expect("it is bound").port();
    let key = bench.io.add(socket, 6).expect("there is room");
    for connected in [false, true] {
        if connected {
            bench.io.connect(key, phone_address).expect("loopback has a route");
        }
        phone.send_to(b"six", (Ipv6Addr::LOCALHOST, port)).expect("loopback takes it");
        let from = (!connected).then_some(phone_address);
        assert_eq!(bench.take(1), [(6, from, b"six".to_vec())]);
        bench.io.send(key, phone_address, b"back");
        bench.io.flush();
        assert_eq!(heard(&phone), (b"back".to_vec(), SocketAddr::from((Ipv6Addr::LOCALHOST, port))));
    }
    bench.io.disconnect(key).expect("it is in");
    let (old, old_address) = self::phone();
    for connected in [false, true] {
        if connected {
            bench.io.connect(key, old_address).expect("loopback has a route");
        }
        old.send_to(b"four", (Ipv4Addr::LOCALHOST, port)).expect("loopback takes it");
        let from = (!connected).then_some(old_address);
        assert_eq!(bench.take(1), [(6, from, b"four".to_vec())]);
        bench.io.send(key, old_address, b"back");
        bench.io.flush();
        assert_eq!(heard(&old), (b"back".to_vec(), SocketAddr::from((Ipv4Addr::LOCALHOST, port))));
    }
}

fn a_crowd_is_heard_and_answered(backend: Backend) {
    let mut bench = Bench::new(backend, CROWD);
    let (phone, phone_address) = phone();
    let sockets: Vec<_> = (0..CROWD as u32).map(|token| bench.add(token)).collect();
    // Two each: more than there are receive buffers.
    for round in 0..2u8 {
        for &(_, address) in &sockets {
            phone.send_to(&[round; 172], address).expect("loopback takes it");
        }
    }
    let seen = bench.take(2 * CROWD);
    assert_eq!(seen.len(), 2 * CROWD);
    for token in 0..CROWD as u32 {
        let rounds: Vec<u8> = seen.iter().filter(|seen| seen.0 == token).map(|seen| seen.2[0]).collect();
        assert_eq!(rounds, [0, 1], "in order, each once, at {token}");
    }
    // The phone's own buffer does not hold all the answers: in parts.
    for part in sockets.chunks(50) {
        for &(key, _) in part {
            bench.io.send(key, phone_address, &[9; 172]);
        }
        bench.io.flush();
        for &(_, address) in part {
            assert_eq!(heard(&phone), (vec![9; 172], address));
        }
    }
    assert_eq!(bench.io.counters().sent, CROWD as u64);
    for (key, _) in sockets {
        bench.io.remove(key);
    }
    bench.poll();
    assert!(bench.io.is_empty());
    bench.add(1);
}

fn a_burst_beyond_all_buffers_loses_nothing(backend: Backend) {
    const SENDERS: usize = 50;
    const EACH: usize = 60;
    let mut bench = Bench::new(backend, SENDERS);
    let (phone, phone_address) = phone();
    let sockets: Vec<_> = (0..SENDERS as u32).map(|token| bench.add(token)).collect();
    for &(_, address) in &sockets {
        for number in 0..EACH as u8 {
            phone.send_to(&[number; 172], address).expect("loopback takes it");
        }
    }
    let seen = bench.take(SENDERS * EACH);
    for token in 0..SENDERS as u32 {
        let numbers: Vec<u8> = seen.iter().filter(|seen| seen.0 == token).map(|seen| seen.2[0]).collect();
        assert_eq!(numbers, (0..EACH as u8).collect::<Vec<_>>(), "in order at {token}");
    }
    if bench.io.name() == "io_uring" {
        assert!(bench.io.counters().starved > 0, "{:?}", bench.io);
    }
    // And it goes on.
    phone.send_to(b"more", sockets[0].1).expect("loopback takes it");
    assert_eq!(bench.take(1), [(0, Some(phone_address), b"more".to_vec())]);
}

fn long_and_empty_datagrams_are_dropped_and_counted(backend: Backend) {
    let mut bench = Bench::new(backend, 4);
    let (key, address) = bench.add(1);
    let (phone, phone_address) = phone();
    for connected in [false, true] {
        if connected {
            bench.io.connect(key, phone_address).expect("loopback has a route");
            // The form of receiving changes after the first.
            phone.send_to(b"first", address).expect("loopback takes it");
            bench.take(1);
            bench.poll();
        }
        for len in [DATAGRAM_MAX + 1, 1598, 4000, 60_000] {
            phone.send_to(&vec![1; len], address).expect("loopback takes it");
        }
        phone.send_to(&[], address).expect("loopback takes it");
        phone.send_to(&[2; DATAGRAM_MAX], address).expect("loopback takes it");
        let from = (!connected).then_some(phone_address);
        assert_eq!(bench.take(1), [(1, from, vec![2; DATAGRAM_MAX])]);
        let (truncated, empty) = if connected { (8, 2) } else { (4, 1) };
        assert_eq!((bench.io.counters().truncated, bench.io.counters().empty), (truncated, empty));
    }
    bench.io.send(key, phone_address, &[3; DATAGRAM_MAX + 1]);
    bench.io.send(key, phone_address, &[4; DATAGRAM_MAX]);
    bench.io.flush();
    assert_eq!(heard(&phone).0, [4; DATAGRAM_MAX]);
    assert_eq!((bench.io.counters().sent, bench.io.counters().send_failed), (1, 1));
}

fn a_queue_longer_than_the_arena_is_sent_all_the_same(backend: Backend) {
    const COUNT: usize = 9000;
    let mut bench = Bench::new(backend, 4);
    let (key, _) = bench.add(1);
    // Nobody reads these; what counts is that the kernel took them.
    let (_phone, phone_address) = phone();
    bench.io.connect(key, phone_address).expect("loopback has a route");
    for _ in 0..COUNT {
        bench.io.send(key, phone_address, &[5; DATAGRAM_MAX]);
    }
    bench.io.flush();
    bench.poll();
    let counters = bench.io.counters();
    assert_eq!(counters.sent + counters.send_full, COUNT as u64, "{counters:?}");
    assert!(counters.sent > 0);
}

/// A socket in sweep 3 that has been connected to a phone, and that phone.
fn swept(bench: &mut Bench, token: u32) -> (SocketKey, SocketAddr, UdpSocket, SocketAddr) {
    let (key, address) = bench.add(token);
    let (phone, phone_address) = phone();
    bench.io.sweep(key, Some(3));
    bench.io.connect(key, phone_address).expect("loopback has a route");
    // Told of the first by the poll or by the sweep: both are right.
    phone.send_to(b"first", address).expect("loopback takes it");
    bench.until(|bench| !bench.seen.is_empty());
    bench.poll();
    assert_eq!(std::mem::take(&mut bench.seen), [(token, None, b"first".to_vec())]);
    (key, address, phone, phone_address)
}

fn a_swept_socket_is_heard_in_its_sweep_and_only_there(backend: Backend) {
    let mut bench = Bench::new(backend, 8);
    let (key, address, phone, phone_address) = swept(&mut bench, 1);
    for round in 0..20u8 {
        phone.send_to(&[round; 172], address).expect("loopback takes it");
        assert_eq!(bench.settled(), [], "the poll leaves it alone");
        for other in (0..SWEEPS).filter(|&other| other != 3) {
            bench.poll_sweep(other);
        }
        assert_eq!(bench.seen, []);
        bench.poll_sweep(3);
        assert_eq!(std::mem::take(&mut bench.seen), [(1, None, vec![round; 172])]);
    }
    // Several at once, one of them too long and one empty.
    bench.poll_sweep(3);
    for bytes in [&[1u8; 5][..], &[2; DATAGRAM_MAX + 1], &[], &[3; 5]] {
        phone.send_to(bytes, address).expect("loopback takes it");
    }
    bench.settled();
    bench.poll_sweep(3);
    assert_eq!(std::mem::take(&mut bench.seen), [(1, None, vec![1; 5]), (1, None, vec![3; 5])]);
    assert_eq!((bench.io.counters().truncated, bench.io.counters().empty), (1, 1));
    bench.io.send(key, phone_address, b"back");
    bench.io.flush();
    assert_eq!(heard(&phone), (b"back".to_vec(), address));
}

fn a_swept_socket_keeps_third_parties_out_and_goes_back_to_the_poll(backend: Backend) {
    let mut bench = Bench::new(backend, 8);
    let (key, address, phone, phone_address) = swept(&mut bench, 1);
    let (third, third_address) = self::phone();
    let _ = third.send_to(b"foreign", address);
    phone.send_to(b"mine", address).expect("loopback takes it");
    bench.settled();
    bench.poll_sweep(3);
    assert_eq!(std::mem::take(&mut bench.seen), [(1, None, b"mine".to_vec())]);

    // To another peer: it stays in the sweep.
    bench.io.connect(key, third_address).expect("loopback has a route");
    third.send_to(b"new", address).expect("loopback takes it");
    bench.seen = bench.settled();
    bench.until(|bench| !bench.seen.is_empty());
    assert_eq!(std::mem::take(&mut bench.seen), [(1, None, b"new".to_vec())]);

    // To another sweep, to none, and back.
    for sweep in [Some(5), None, Some(3)] {
        bench.io.sweep(key, sweep);
        third.send_to(b"moved", address).expect("loopback takes it");
        bench.seen = bench.settled();
        bench.until(|bench| !bench.seen.is_empty());
        assert_eq!(std::mem::take(&mut bench.seen), [(1, None, b"moved".to_vec())], "{sweep:?}");
    }
    bench.io.disconnect(key).expect("it is in");
    phone.send_to(b"all", address).expect("loopback takes it");
    bench.poll_sweep(3);
    assert_eq!(bench.seen, []);
    assert_eq!(bench.settled(), [(1, Some(phone_address), b"all".to_vec())]);
}

fn a_swept_socket_survives_refusal_and_removal_leaves_no_trace(backend: Backend) {
    let mut bench = Bench::new(backend, 2);
    let (key, address, phone, phone_address) = swept(&mut bench, 1);
    drop(phone);
    for _ in 0..20 {
        bench.io.send(key, phone_address, b"anyone?");
        bench.io.flush();
        bench.poll_sweep(3);
    }
    let counters = bench.io.counters();
    assert!(counters.send_refused + counters.receive_refused > 0, "{counters:?}");
    let phone = UdpSocket::bind(phone_address).expect("still free");
    phone.set_read_timeout(Some(PATIENCE)).expect("it is not zero");
    phone.send_to(b"here", address).expect("loopback takes it");
    bench.until(|bench| !bench.seen.is_empty());
    assert_eq!(std::mem::take(&mut bench.seen), [(1, None, b"here".to_vec())]);
    for _ in 0..2 {
        bench.io.send(key, phone_address, b"bye");
    }
    bench.io.remove(key);
    assert_eq!(heard(&phone).0, b"bye");
    UdpSocket::bind(address).expect("the port is free at once");
    bench.poll_sweep(3);
    let (_, new_address) = bench.add(2);
    phone.send_to(b"new", new_address).expect("loopback takes it");
    bench.poll_sweep(3);
    assert_eq!(bench.settled(), [(2, Some(phone_address), b"new".to_vec())]);
}

fn a_crowd_is_swept(backend: Backend) {
    const SWEPT: usize = 700;
    let mut bench = Bench::new(backend, SWEPT + 1);
    let (phone, phone_address) = phone();
    let sockets: Vec<_> = (0..SWEPT as u32).map(|token| bench.add(token)).collect();
    for &(key, address) in &sockets {
        bench.io.sweep(key, Some(0));
        bench.io.connect(key, phone_address).expect("loopback has a route");
        phone.send_to(b"first", address).expect("loopback takes it");
    }
    bench.take(SWEPT);
    bench.poll();
    for round in 0..3u8 {
        for &(_, address) in &sockets {
            phone.send_to(&[round], address).expect("loopback takes it");
        }
        bench.poll();
        bench.poll_sweep(0);
        let mut tokens: Vec<u32> = std::mem::take(&mut bench.seen).iter().map(|seen| seen.0).collect();
        tokens.sort_unstable();
        assert_eq!(tokens, (0..SWEPT as u32).collect::<Vec<_>>());
    }
}

fn closing_the_driver_frees_the_ports(backend: Backend) {
    // Of an address that no other test has: one of those may take a port that was just freed.
    let host = Ipv4Addr::new(127, 3, 0, if backend == Backend::Epoll { 1 } else { 2 });
    let mut bench = Bench::new(backend, 100);
    let mut add = |token| {
        let socket = UdpSocket::bind((host, 0)).expect("loopback has free ports");
        let address = socket.local_addr().expect("it is bound");
        bench.io.add(socket, token).expect("there is room");
        address
    };
    let addresses: Vec<_> = (0..100).map(&mut add).collect();
    drop(bench);
    for address in addresses {
        UdpSocket::bind(address).expect("the port is free");
    }
}

fn more_sockets_than_the_capacity_are_refused(backend: Backend) {
    let mut bench = Bench::new(backend, 2);
    let (first, _) = bench.add(1);
    bench.add(2);
    let error = bench.io.add(bound_v4(), 3).expect_err("it is full");
    assert_eq!(error.kind(), std::io::ErrorKind::QuotaExceeded);
    bench.io.remove(first);
    bench.io.add(bound_v4(), 3).expect("one has gone");
    assert_eq!(bench.io.len(), 2);
}

/// A socket that is taken out of one driver and put into another goes on, whatever it was.
fn a_socket_goes_from_driver_to_driver(backend: Backend) {
    for (is_connected, is_swept) in [(false, false), (true, false), (true, true)] {
        let (mut old, mut new) = (Bench::new(backend, 4), Bench::new(backend, 4));
        let (key, address) = old.add(1);
        let (phone, phone_address) = phone();
        if is_swept {
            old.io.sweep(key, Some(3));
        }
        if is_connected {
            old.io.connect(key, phone_address).expect("loopback has a route");
        }
        phone.send_to(b"one", address).expect("loopback takes it");
        old.take(1);
        let socket = old.io.take(key).expect("it is there");
        assert_eq!(old.io.len(), 0);
        assert!(old.io.take(key).is_err(), "it is gone");
        assert_eq!(socket.peer_addr().ok(), is_connected.then_some(phone_address));
        let key = new.io.add(socket, 2).expect("there is room");
        phone.send_to(b"two", address).expect("loopback takes it");
        let seen = new.take(1);
        assert_eq!((seen[0].0, seen[0].2.as_slice()), (2, b"two".as_slice()));
        new.io.send(key, phone_address, b"three");
        new.io.flush();
        assert_eq!(heard(&phone), (b"three".to_vec(), address));
        assert!(old.settled().is_empty(), "the first driver hears of it no more");
    }
}

/// Each test under each driver.
macro_rules! under_each_driver {
    ($($test:ident),* $(,)?) => {
        mod epoll_driver {
            $(#[test] fn $test() { super::$test(super::Backend::Epoll); })*
        }
        mod uring_driver {
            $(#[test] fn $test() {
                if super::Backend::Auto.resolve().0 == super::Backend::Epoll {
                    eprintln!("not run: this system has no io_uring");
                    return;
                }
                super::$test(super::Backend::Uring);
            })*
        }
    };
}

/// Each test with the express path beside a driver.
macro_rules! with_the_express_path {
    ($($test:ident),* $(,)?) => {
        mod express_path {
            $(#[test] fn $test() {
                super::on_the_express_path(|| super::$test(super::Backend::Auto));
            })*
        }
    };
}

under_each_driver!(
    a_socket_goes_from_driver_to_driver,
    sends_and_receives_before_and_after_connecting,
    keeps_third_parties_out_once_connected,
    delivers_nothing_of_a_removed_socket_under_a_new_key,
    sends_what_was_queued_before_a_removal_and_frees_the_port,
    a_refusing_peer_does_not_end_a_socket,
    speaks_ipv6_and_both_on_one_socket,
    a_crowd_is_heard_and_answered,
    a_burst_beyond_all_buffers_loses_nothing,
    long_and_empty_datagrams_are_dropped_and_counted,
    a_queue_longer_than_the_arena_is_sent_all_the_same,
    more_sockets_than_the_capacity_are_refused,
    a_swept_socket_is_heard_in_its_sweep_and_only_there,
    a_swept_socket_keeps_third_parties_out_and_goes_back_to_the_poll,
    a_swept_socket_survives_refusal_and_removal_leaves_no_trace,
    a_crowd_is_swept,
    closing_the_driver_frees_the_ports,
);

// Without those about what only a socket sees: refusals, datagrams longer than a frame, and what
// waits in it while its peer changes.
with_the_express_path!(
    sends_and_receives_before_and_after_connecting,
    delivers_nothing_of_a_removed_socket_under_a_new_key,
    sends_what_was_queued_before_a_removal_and_frees_the_port,
    speaks_ipv6_and_both_on_one_socket,
    a_crowd_is_heard_and_answered,
    a_burst_beyond_all_buffers_loses_nothing,
    a_queue_longer_than_the_arena_is_sent_all_the_same,
    more_sockets_than_the_capacity_are_refused,
    a_swept_socket_is_heard_in_its_sweep_and_only_there,
    a_swept_socket_keeps_third_parties_out_and_goes_back_to_the_poll,
    a_crowd_is_swept,
    closing_the_driver_frees_the_ports,
);

#[test]
fn auto_opens_what_it_resolves_to_and_says_why() {
    let (backend, reason) = Backend::Auto.resolve();
    let io = MediaIo::open(Backend::Auto, 4).expect("epoll is everywhere");
    match backend {
        Backend::Uring => assert_eq!((io.name(), io.fallback(), reason), ("io_uring", None, None)),
        _ => {
            assert_eq!(io.name(), "epoll");
            assert!(io.fallback().is_some() && reason.is_some());
        }
    }
    assert_eq!(MediaIo::open(Backend::Epoll, 4).expect("epoll is everywhere").name(), "epoll");
}
