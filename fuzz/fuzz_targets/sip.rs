//! A SIP endpoint that meets arbitrary messages, and an owner that does all it may. Several messages
//! of one input are parted by a zero byte, with what to do and how long to wait in the byte before.
#![no_main]

use std::net::SocketAddr;

use bytes::Bytes;
use confab::rng::Rng;
use confab::sip::{Cause, Endpoint, Event, Flow, Rejection, Settings, Transport};
use confab::time::{Duration, Instant};
use libfuzzer_sys::fuzz_target;

/// More messages than this say nothing new.
const MESSAGES_MAX: usize = 16;
/// No message we write may be larger than one we take.
const MESSAGE_BYTES_MAX: usize = 65_535;

fuzz_target!(|input: &[u8]| {
    let ours: SocketAddr = ([192, 0, 2, 1], 5060).into();
    let theirs: SocketAddr = ([192, 0, 2, 2], 5060).into();
    let mut endpoint = Endpoint::new(Settings::default(), Rng::from_number(1));
    let mut now = Instant::from_millis(1);
    for message in input.split(|byte| *byte == 0).take(MESSAGES_MAX) {
        let deed = message.last().copied().unwrap_or(0);
        let (transport, id) = if deed & 1 == 0 { (Transport::Udp, 1) } else { (Transport::Tcp, 2) };
        let flow = Flow { transport, id, local: ours, remote: theirs };
        endpoint.handle_message(now, flow, Bytes::copy_from_slice(message));
        own(&mut endpoint, now, deed, ours);
        now = now + Duration::from_millis(u64::from(deed) * 20);
        if endpoint.next_timeout().is_some_and(|at| at <= now) {
            endpoint.handle_timeout(now);
        }
        own(&mut endpoint, now, deed, ours);
    }
    // Nothing stays for ever but a call that is up.
    for _ in 0..200 {
        let Some(at) = endpoint.next_timeout() else { break };
        now = now.max(at);
        endpoint.handle_timeout(now);
        own(&mut endpoint, now, 0, ours);
    }
});

/// Takes what the endpoint has and answers it.
fn own(endpoint: &mut Endpoint, now: Instant, deed: u8, contact: SocketAddr) {
    while let Some(event) = endpoint.poll_event() {
        match event {
            Event::Invite { call, request, .. } => {
                let _ = (request.uri().to_string(), request.from_uri(), request.to_uri());
                let _ = (request.from_display_name(), request.call_id(), request.body());
                match deed >> 1 & 3 {
                    0 => endpoint.reject(now, call, Rejection::new(486)),
                    1 => endpoint.hang_up(now, call, Cause::normal()),
                    _ => endpoint.accept(now, call, contact, Bytes::from_static(b"v=0\r\n")),
                }
            }
            Event::Reinvite { call, .. } if deed & 8 == 0 => {
                endpoint.reject_reinvite(now, call, Rejection::new(488));
            }
            Event::Reinvite { call, .. } => endpoint.accept_reinvite(now, call, Bytes::new()),
            Event::Options { key, .. } | Event::Info { key, .. } => {
                endpoint.answer(now, key, 200, "", &[], Bytes::new());
            }
            Event::Acked { call, .. } if deed & 16 != 0 => endpoint.hang_up(now, call, Cause::normal()),
            _ => {}
        }
    }
    while let Some(transmit) = endpoint.poll_transmit() {
        assert!(transmit.bytes.len() <= MESSAGE_BYTES_MAX);
    }
}
