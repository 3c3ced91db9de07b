//! What is different on the express path. What is the same is tested for all drivers above.

use std::net::{SocketAddr, UdpSocket};

use super::{Backend, Bench, heard, on_the_express_path, phone};
use crate::net::media::xdp::{RECEIVE_FRAMES, SILENT_POLLS};
use crate::net::media::{Interface, SocketKey};

/// A connected socket that has been heard on the express path once.
fn settled(bench: &mut Bench, token: u32) -> (SocketKey, SocketAddr, UdpSocket, SocketAddr) {
    let (key, address) = bench.add(token);
    let (phone, phone_address) = phone();
    bench.io.connect(key, phone_address).expect("loopback has a route");
    phone.send_to(b"first", address).expect("loopback takes it");
    assert_eq!(bench.take(1), [(token, None, b"first".to_vec())]);
    assert_eq!(bench.io.counters().express_received, 1);
    (key, address, phone, phone_address)
}

#[test]
fn a_settled_peer_is_heard_and_answered_by_frames() {
    on_the_express_path(|| {
        let mut bench = Bench::new(Backend::Epoll, 4);
        let (key, address, phone, phone_address) = settled(&mut bench, 7);
        let before = bench.io.counters();
        for payload in [&b"one"[..], &[0xFF; 172], &[0x7F; 1500]] {
            phone.send_to(payload, address).expect("loopback takes it");
            assert_eq!(bench.take(1), [(7, None, payload.to_vec())]);
            bench.io.send(key, phone_address, payload);
            bench.io.flush();
            assert_eq!(heard(&phone), (payload.to_vec(), address), "whole, and from our address");
        }
        let after = bench.io.counters();
        assert_eq!(after.express_received - before.express_received, 3);
        assert_eq!(after.express_sent - before.express_sent, 3);
        assert_eq!((after.received, after.sent), (4, 3));
    });
}

#[test]
fn before_a_peer_is_heard_it_is_sent_to_by_its_socket() {
    on_the_express_path(|| {
        let mut bench = Bench::new(Backend::Epoll, 4);
        let (key, address) = bench.add(1);
        let (phone, phone_address) = phone();
        bench.io.connect(key, phone_address).expect("loopback has a route");
        bench.io.send(key, phone_address, b"hello?");
        bench.io.flush();
        assert_eq!(heard(&phone), (b"hello?".to_vec(), address));
        assert_eq!(bench.io.counters().express_sent, 0);
    });
}

#[test]
fn a_sweep_gets_in_order_what_came_for_it_and_nothing_of_an_older_peer() {
    on_the_express_path(|| {
        let mut bench = Bench::new(Backend::Epoll, 4);
        let (key, address, phone, _) = settled(&mut bench, 7);
        bench.io.sweep(key, Some(3));
        for number in 0..5u8 {
            phone.send_to(&[number], address).expect("loopback takes it");
        }
        bench.poll();
        bench.poll_sweep(2);
        assert_eq!(bench.seen, []);
        bench.poll_sweep(3);
        let seen: Vec<u8> = std::mem::take(&mut bench.seen).iter().map(|seen| seen.2[0]).collect();
        assert_eq!(seen, [0, 1, 2, 3, 4]);

        phone.send_to(b"late", address).expect("loopback takes it");
        bench.poll();
        let (other, other_address) = super::phone();
        bench.io.connect(key, other_address).expect("loopback has a route");
        bench.poll_sweep(3);
        assert_eq!(bench.seen, [], "its peer is another now");
        other.send_to(b"other", address).expect("loopback takes it");
        assert_eq!(bench.take(1), [(7, None, b"other".to_vec())]);
        assert_eq!(bench.io.counters().stale, 1);
    });
}

#[test]
fn third_parties_are_kept_out() {
    on_the_express_path(|| {
        let mut bench = Bench::new(Backend::Epoll, 4);
        let (_, address, phone, _) = settled(&mut bench, 7);
        let (third, _) = super::phone();
        third.send_to(b"me too", address).expect("loopback takes it");
        phone.send_to(b"mine", address).expect("loopback takes it");
        assert_eq!(bench.take(1), [(7, None, b"mine".to_vec())]);
        assert_eq!(bench.io.counters().foreign, 1);
    });
}

#[test]
fn a_peer_that_falls_silent_is_sent_to_by_its_socket_until_it_is_heard_again() {
    on_the_express_path(|| {
        let mut bench = Bench::new(Backend::Epoll, 4);
        let (key, address, phone, phone_address) = settled(&mut bench, 7);
        bench.io.sweep(key, Some(3));
        let send = |bench: &mut Bench| {
            let before = bench.io.counters().express_sent;
            bench.io.send(key, phone_address, b"still there?");
            bench.io.flush();
            assert_eq!(heard(&phone), (b"still there?".to_vec(), address));
            bench.io.counters().express_sent - before
        };
        for _ in 0..SILENT_POLLS {
            bench.poll();
        }
        assert_eq!(send(&mut bench), 1);
        bench.poll();
        assert_eq!((send(&mut bench), send(&mut bench)), (0, 0));
        phone.send_to(b"yes", address).expect("loopback takes it");
        assert_eq!(bench.take(1), [(7, None, b"yes".to_vec())]);
        assert_eq!(send(&mut bench), 1);
    });
}

#[test]
fn more_than_all_frames_unread_is_lost_counted_and_goes_by() {
    on_the_express_path(|| {
        let mut bench = Bench::new(Backend::Epoll, 4);
        let (_, address, phone, _) = settled(&mut bench, 7);
        for _ in 0..RECEIVE_FRAMES + 100 {
            phone.send_to(b"many", address).expect("loopback takes it");
        }
        bench.poll();
        let count = bench.seen.len() as u64;
        let counters = bench.io.counters();
        assert!(counters.express_lost >= 100, "{counters:?}");
        assert_eq!(count + counters.express_lost, u64::from(RECEIVE_FRAMES) + 100);
        bench.seen.clear();
        phone.send_to(b"after", address).expect("loopback takes it");
        assert_eq!(bench.take(1), [(7, None, b"after".to_vec())]);
    });
}

#[test]
fn a_port_and_the_interface_go_back_to_the_kernel() {
    on_the_express_path(|| {
        let mut bench = Bench::new(Backend::Epoll, 4);
        let (key, address, phone, _) = settled(&mut bench, 7);
        let again = Interface::attach("lo").expect_err("one program at a time");
        assert_eq!(again.kind(), std::io::ErrorKind::ResourceBusy);
        bench.io.remove(key);
        let next = UdpSocket::bind(address).expect("the port is free");
        phone.send_to(b"for the kernel", address).expect("loopback takes it");
        assert_eq!(heard(&next).0, b"for the kernel");
        drop(bench);
        drop(Interface::attach("lo").expect("nobody is attached any more"));
    });
}

#[test]
fn an_interface_without_a_queue_for_a_thread_gives_it_no_express_path() {
    on_the_express_path(|| {
        let interface = std::sync::Arc::new(Interface::attach("lo").expect("nobody is attached"));
        let mut io = super::MediaIo::open(Backend::Epoll, 4).expect("epoll is everywhere");
        assert!(!io.attach(interface.clone(), interface.queues()).expect("that is no error"));
    });
}

#[test]
fn an_interface_that_is_not_there_is_an_error() {
    let error = Interface::attach("nosuch0").expect_err("there is none");
    assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
}
