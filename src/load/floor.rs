//! `confab floor`: what the system calls alone cost. A single thread that answers calls and sends
//! every RTP packet back to where it came from, by the plainest epoll, recvfrom and sendto. A
//! bridge that moves audio on this machine is measured against it.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use slab::Slab;

use crate::net::media::{PortPair, PortsError, RtpPorts};
use crate::rng::Rng;

/// Calls at once; more get 503.
pub const CALLS_MAX: usize = 10_000;
/// Ready sockets asked for at once.
const EVENTS_MAX: usize = 256;
/// How long the loop may sleep before it looks at the stop flag, in milliseconds.
const SLEEP_MAX_MS: libc::c_int = 100;
/// The longest datagram read.
const DATAGRAM_MAX: usize = 65_536;
/// What the SIP socket may hold unread, in bytes: a burst of a few hundred INVITEs.
const SIP_BUFFER_BYTES: usize = 1024 * 1024;
/// The event of the SIP socket; others are indices of calls.
const SIP: u64 = u64::MAX;

/// Where the floor listens.
#[derive(Clone, Debug)]
pub struct FloorOptions {
    /// The address SIP over UDP is taken on.
    pub sip: SocketAddr,
    /// The ports RTP is echoed on.
    pub rtp_ports: RangeInclusive<u16>,
}

/// What the floor did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FloorCounters {
    /// Calls answered.
    pub calls: u64,
    /// Calls ended by BYE.
    pub ended: u64,
    /// The most calls at once.
    pub calls_peak: u64,
    /// Calls refused for want of a port.
    pub refused: u64,
    /// Messages that could not be read.
    pub unread: u64,
    /// RTP packets echoed.
    pub packets: u64,
    /// RTP packets that could not be echoed.
    pub failed: u64,
}

/// Answers and echoes until `stop` is set. Raises the process's limit of open files.
///
/// # Errors
/// When the SIP address cannot be bound or the port range holds no pair.
pub fn run(options: &FloorOptions, stop: &AtomicBool) -> io::Result<FloorCounters> {
    let mut floor = Floor::open(options)?;
    while !stop.load(Ordering::Relaxed) {
        floor.turn()?;
    }
    Ok(floor.counters)
}

/// The bare echo.
struct Floor {
    epoll: OwnedFd,
    sip: UdpSocket,
    ports: RtpPorts,
    calls: Slab<Call>,
    by_call_id: HashMap<String, usize>,
    buffer: Box<[u8]>,
    events: Vec<libc::epoll_event>,
    counters: FloorCounters,
}

struct Call {
    rtp: UdpSocket,
    port: u16,
}

impl Floor {
    fn open(options: &FloorOptions) -> io::Result<Self> {
        raise_file_limit();
        let sip = UdpSocket::bind(options.sip)?;
        sip.set_nonblocking(true)?;
        // A system that grants less drops some of a burst; callers send again.
        let _ = socket2::SockRef::from(&sip).set_recv_buffer_size(SIP_BUFFER_BYTES);
        let mut rng = Rng::from_number(u64::from(std::process::id()));
        let ports =
            RtpPorts::new(options.rtp_ports.clone(), options.sip.ip(), &mut rng).map_err(io::Error::other)?;
        // SAFETY: takes numbers only.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just gave us this descriptor and nobody else has it.
        let epoll = unsafe { OwnedFd::from_raw_fd(fd) };
        let floor = Self {
            epoll,
            sip,
            ports,
            calls: Slab::new(),
            by_call_id: HashMap::new(),
            buffer: vec![0; DATAGRAM_MAX].into_boxed_slice(),
            events: vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX],
            counters: FloorCounters::default(),
        };
        floor.watch(&floor.sip, SIP)?;
        Ok(floor)
    }

    fn watch(&self, socket: &UdpSocket, mark: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: mark };
        let (epoll, fd) = (self.epoll.as_raw_fd(), socket.as_raw_fd());
        // SAFETY: both descriptors are open and `event` lives through the call.
        match unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &mut event) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Waits for events and handles them.
    fn turn(&mut self) -> io::Result<()> {
        let (fd, events) = (self.epoll.as_raw_fd(), self.events.as_mut_ptr());
        // SAFETY: `events` has room for as many events as are asked for.
        let ready = unsafe { libc::epoll_wait(fd, events, EVENTS_MAX as libc::c_int, SLEEP_MAX_MS) };
        let Ok(ready) = usize::try_from(ready) else {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) };
        };
        for at in 0..ready {
            match self.events[at].u64 {
                SIP => self.answer(),
                index => self.echo(index as usize),
            }
        }
        Ok(())
    }

    /// Sends one packet of a call back.
    fn echo(&mut self, index: usize) {
        let Some(call) = self.calls.get(index) else { return };
        // SAFETY: an all-zero address is a valid one of no family.
        let mut from: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
        let mut from_len = size_of_val(&from) as libc::socklen_t;
        let fd = call.rtp.as_raw_fd();
        let (buffer, len) = (self.buffer.as_mut_ptr(), self.buffer.len());
        // SAFETY: the buffer and the address are writable for the lengths given.
        let len = unsafe { libc::recvfrom(fd, buffer.cast(), len, 0, (&raw mut from).cast(), &mut from_len) };
        let Ok(len) = usize::try_from(len) else { return };
        // SAFETY: `recvfrom` filled `len` bytes of the buffer and the address.
        let sent = unsafe { libc::sendto(fd, buffer.cast(), len, 0, (&raw const from).cast(), from_len) };
        if sent < 0 {
            self.counters.failed += 1;
        } else {
            self.counters.packets += 1;
        }
    }

    /// Answers one SIP message.
    fn answer(&mut self) {
        let Ok((len, from)) = self.sip.recv_from(&mut self.buffer) else { return };
        let text = String::from_utf8_lossy(&self.buffer[..len]).into_owned();
        let Some(request) = Request::read(&text) else {
            self.counters.unread += 1;
            return;
        };
        let response = match request.method {
            "INVITE" => self.invite(&request, from),
            "BYE" => {
                if let Some(index) = self.by_call_id.remove(request.call_id) {
                    self.calls.remove(index);
                    self.counters.ended += 1;
                }
                request.respond("200 OK", "", "")
            }
            "OPTIONS" | "CANCEL" => request.respond("200 OK", "", ""),
            "ACK" => return,
            _ => request.respond("501 Not Implemented", "", ""),
        };
        // A lost answer is asked for again.
        let _ = self.sip.send_to(response.as_bytes(), from);
    }

    /// Answers a new call with a port, one that is there with the port it has.
    fn invite(&mut self, request: &Request<'_>, from: SocketAddr) -> String {
        let index = match self.by_call_id.get(request.call_id) {
            Some(&index) => index,
            None => match self.add_call(request.call_id) {
                Ok(index) => index,
                Err(_) => {
                    self.counters.refused += 1;
                    return request.respond("503 Service Unavailable", "", "");
                }
            },
        };
        let Some(call) = self.calls.get(index) else {
            return request.respond("503 Service Unavailable", "", "");
        };
        let here = self.address_towards(from);
        let family = if here.is_ipv6() { "IP6" } else { "IP4" };
        let sdp = format!(
            "v=0\r\no=floor 1 1 IN {family} {here}\r\ns=-\r\nc=IN {family} {here}\r\nt=0 0\r\n\
             m=audio {} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=ptime:20\r\n",
            call.port
        );
        let port = self.sip.local_addr().map_or(0, |address| address.port());
        let contact = format!("Contact: <sip:{}>\r\n", SocketAddr::new(here, port));
        request.respond("200 OK", &format!("{contact}Content-Type: application/sdp\r\n"), &sdp)
    }

    fn add_call(&mut self, call_id: &str) -> Result<usize, PortsError> {
        if self.calls.len() >= CALLS_MAX {
            return Err(io::Error::from(io::ErrorKind::QuotaExceeded).into());
        }
        let PortPair { rtp, port, .. } = self.ports.open(true)?;
        self.watch(&rtp, self.calls.vacant_key() as u64)?;
        let index = self.calls.insert(Call { rtp, port });
        self.by_call_id.insert(call_id.to_owned(), index);
        self.counters.calls += 1;
        self.counters.calls_peak = self.counters.calls_peak.max(self.calls.len() as u64);
        Ok(index)
    }

    /// The address of this machine that the other side reaches.
    fn address_towards(&self, peer: SocketAddr) -> IpAddr {
        let bound = self.sip.local_addr().map_or(peer.ip(), |address| address.ip());
        if !bound.is_unspecified() {
            return bound;
        }
        let route = UdpSocket::bind((bound, 0))
            .and_then(|probe| probe.connect(peer).and_then(|()| probe.local_addr()));
        route.map_or(bound, |address| address.ip().to_canonical())
    }
}

/// What is needed of a request to answer it, verbatim.
struct Request<'a> {
    method: &'a str,
    call_id: &'a str,
    via: Vec<&'a str>,
    record_route: Vec<&'a str>,
    from: &'a str,
    to: &'a str,
    cseq: &'a str,
}

impl<'a> Request<'a> {
    /// Reads a request; `None` for responses and what is no SIP.
    fn read(text: &'a str) -> Option<Self> {
        let head = text.split("\r\n\r\n").next()?;
        let mut lines = head.lines();
        let start = lines.next()?;
        let (method, rest) = start.split_once(' ')?;
        if !rest.ends_with("SIP/2.0") {
            return None;
        }
        let mut request = Self {
            method,
            call_id: "",
            via: Vec::new(),
            record_route: Vec::new(),
            from: "",
            to: "",
            cseq: "",
        };
        for line in lines {
            let Some((name, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            match name.trim().to_ascii_lowercase().as_str() {
                "via" | "v" => request.via.push(value),
                "record-route" => request.record_route.push(value),
                "from" | "f" => request.from = value,
                "to" | "t" => request.to = value,
                "call-id" | "i" => request.call_id = value,
                "cseq" => request.cseq = value,
                _ => {}
            }
        }
        let whole = !request.via.is_empty() && !request.from.is_empty() && !request.to.is_empty();
        (whole && !request.call_id.is_empty() && !request.cseq.is_empty()).then_some(request)
    }

    /// A response; `headers` are further ones, each with its line end.
    fn respond(&self, status: &str, headers: &str, body: &str) -> String {
        let mut text = format!("SIP/2.0 {status}\r\n");
        let lines = |name: &str, values: &[&str]| -> String {
            values.iter().map(|value| format!("{name}: {value}\r\n")).collect()
        };
        text += &lines("Via", &self.via);
        text += &lines("Record-Route", &self.record_route);
        // One tag does for all: a dialog is told apart by its Call-ID here.
        let tag = if self.to.to_ascii_lowercase().contains(";tag=") { "" } else { ";tag=floor" };
        text += &format!(
            "From: {}\r\nTo: {}{tag}\r\nCall-ID: {}\r\nCSeq: {}\r\n",
            self.from, self.to, self.call_id, self.cseq
        );
        text += headers;
        text += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
        text
    }
}

/// Raises the limit of open files as far as the process may; without success some calls get 503.
fn raise_file_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the answer.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } == 0 {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: `limit` is readable through the call.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;

    /// A floor that runs while a test talks to it.
    fn with_floor(rtp_ports: RangeInclusive<u16>, talk: impl FnOnce(&UdpSocket)) -> FloorCounters {
        let probe = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let sip = probe.local_addr().expect("it is bound");
        drop(probe);
        let stop = AtomicBool::new(false);
        let mut floor = Floor::open(&FloorOptions { sip, rtp_ports }).expect("it is free again");
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    floor.turn().expect("epoll works");
                }
            });
            let phone = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
            phone.connect(sip).expect("loopback has a route");
            phone.set_read_timeout(Some(Duration::from_secs(5))).expect("it is not zero");
            let talked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| talk(&phone)));
            stop.store(true, Ordering::Relaxed);
            thread.join().expect("the floor does not panic");
            talked.expect("the talk went well");
        });
        floor.counters
    }

    fn ask(phone: &UdpSocket, method: &str, call_id: &str) -> String {
        let request = format!(
            "{method} sip:x@y SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nv: SIP/2.0/UDP b;branch=z9hG4bK2\r\n\
             From: <sip:a@a>;tag=1\r\nTo: <sip:x@y>\r\nCall-ID: {call_id}\r\nCSeq: 1 {method}\r\n\r\n"
        );
        phone.send(request.as_bytes()).expect("loopback takes it");
        let mut buffer = [0; 2048];
        let len = phone.recv(&mut buffer).expect("an answer");
        String::from_utf8_lossy(&buffer[..len]).into_owned()
    }

    fn port_in(answer: &str) -> u16 {
        let (_, rest) = answer.split_once("m=audio ").expect("an SDP answer");
        rest.split(' ').next().and_then(|port| port.parse().ok()).expect("a port")
    }

    #[test]
    fn a_call_is_answered_echoed_and_ended() {
        let counters =
            with_floor(30_000..=30_099, |phone| {
                let answer = ask(phone, "INVITE", "c1");
                assert!(answer.starts_with(
                    "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nVia: SIP/2.0/UDP b;"
                ));
                assert!(answer.contains("To: <sip:x@y>;tag=floor\r\n"));
                let (head, body) = answer.split_once("\r\n\r\n").expect("a body");
                assert!(head.contains(&format!("Content-Length: {}", body.len())));
                assert!(head.contains("Contact: <sip:127.0.0.1:"));
                let port = port_in(&answer);
                assert_eq!(port_in(&ask(phone, "INVITE", "c1")), port, "asked again: the same call");
                assert_ne!(port_in(&ask(phone, "INVITE", "c2")), port);

                let rtp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
                rtp.set_read_timeout(Some(Duration::from_secs(5))).expect("it is not zero");
                rtp.send_to(b"sound", (Ipv4Addr::LOCALHOST, port)).expect("loopback takes it");
                let mut buffer = [0; 64];
                let (len, from) = rtp.recv_from(&mut buffer).expect("the echo");
                assert_eq!((&buffer[..len], from.port()), (&b"sound"[..], port));
                assert!(ask(phone, "BYE", "c1").starts_with("SIP/2.0 200"));
                assert!(ask(phone, "OPTIONS", "o").starts_with("SIP/2.0 200"));
                assert!(ask(phone, "PUBLISH", "p").starts_with("SIP/2.0 501"));
                UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).expect("the port is free after the BYE");
            });
        let expected =
            FloorCounters { calls: 2, ended: 1, calls_peak: 2, packets: 1, ..FloorCounters::default() };
        assert_eq!(counters, expected);
    }

    #[test]
    fn calls_beyond_the_ports_are_refused() {
        let counters = with_floor(30_100..=30_103, |phone| {
            for call_id in ["a", "b"] {
                assert!(ask(phone, "INVITE", call_id).starts_with("SIP/2.0 200"));
            }
            assert!(ask(phone, "INVITE", "c").starts_with("SIP/2.0 503"));
            ask(phone, "BYE", "a");
            assert!(ask(phone, "INVITE", "c").starts_with("SIP/2.0 200"));
        });
        assert_eq!((counters.calls, counters.refused), (3, 1));
    }

    #[test]
    fn what_is_no_request_is_passed_over() {
        let counters = with_floor(30_200..=30_203, |phone| {
            for junk in [
                &b""[..],
                b"\r\n\r\n",
                b"SIP/2.0 200 OK\r\n\r\n",
                b"\xff\xfe\xfd",
                b"INVITE x SIP/2.0\r\n\r\n",
                b"INVITE",
            ] {
                phone.send(junk).expect("loopback takes it");
            }
            assert!(ask(phone, "OPTIONS", "o").starts_with("SIP/2.0 200"), "it goes on");
        });
        assert_eq!(counters.unread, 6);
    }
}
