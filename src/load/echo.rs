//! For tests: the bare echo on a free port of loopback, ready when it is returned.

use std::net::{SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::floor::{self, FloorCounters, FloorOptions};

/// A floor in a thread of its own; it stops when this is dropped.
pub struct Echo {
    /// Where it takes SIP.
    pub sip: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<FloorCounters>>,
}

/// A port that was free a moment ago.
pub fn free_port() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port")
}

impl Echo {
    /// Starts it and waits until it answers.
    pub fn start(rtp_ports: RangeInclusive<u16>) -> Echo {
        let sip = free_port();
        let stop = Arc::new(AtomicBool::new(false));
        let seen = stop.clone();
        let options = FloorOptions { sip, rtp_ports };
        let thread = std::thread::spawn(move || floor::run(&options, &seen).expect("the floor runs"));
        wait_for(sip);
        Echo { sip, stop, thread: Some(thread) }
    }

    /// Stops it and tells what it did.
    pub fn stop(mut self) -> FloorCounters {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("it was not stopped before").join().expect("the floor ends well")
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Asks until there is an answer; each try waits a little, all together ten seconds.
fn wait_for(sip: SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.set_read_timeout(Some(Duration::from_millis(10))).expect("not zero");
    let ask = "OPTIONS sip:x SIP/2.0\r\nVia: SIP/2.0/UDP x;branch=z9hG4bKx\r\nFrom: <x>;tag=1\r\nTo: <x>\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\n\r\n";
    let answered = (0..1000).any(|_| {
        // Not connected, so that a refusal does not cut the waiting short.
        let _ = socket.send_to(ask.as_bytes(), sip);
        socket.recv_from(&mut [0; 2000]).is_ok()
    });
    assert!(answered, "the floor never answered");
}
