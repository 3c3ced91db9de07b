//! A UDP port that takes the sound of a call whose signalling a SIPp does.

use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use confab::codec::g711;

use crate::process::free_ports;
use crate::sound::Heard;

/// RTP version 2 without padding, extension or CSRC.
const RTP_PLAIN: u8 = 0x80;
const RTP_HEADER_BYTES: usize = 12;

/// An open ear: the µ-law that comes is kept in the order of its arrival.
pub struct Ear {
    /// The port to tell the talker.
    pub port: u16,
    closed: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Vec<u8>>>,
}

impl Ear {
    /// Opens one at `address`.
    pub fn open(address: IpAddr) -> Ear {
        let port = free_ports(2);
        let socket = UdpSocket::bind((address, port)).expect("a free port");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a UDP socket");
        let closed = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&closed);
        let thread = std::thread::spawn(move || {
            let (mut payloads, mut packet) = (Vec::new(), [0; 2048]);
            while !seen.load(Ordering::Relaxed) {
                let Ok(length) = socket.recv(&mut packet) else { continue };
                if let [RTP_PLAIN, 0 | 0x80, ..] = packet
                    && let Some(payload) = packet.get(RTP_HEADER_BYTES..length)
                {
                    payloads.push(payload.to_vec());
                }
            }
            payloads
        });
        Ear { port, closed, thread }
    }

    /// Closes it; gives the number of RTP packets that came and their sound.
    pub fn close(self) -> (usize, Heard) {
        self.closed.store(true, Ordering::Relaxed);
        let payloads = self.thread.join().expect("the ear does not panic");
        let bytes = payloads.concat();
        let mut samples = vec![0; bytes.len()];
        g711::decode_ulaw(&bytes, &mut samples);
        (payloads.len(), Heard::of(samples))
    }
}
