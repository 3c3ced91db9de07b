//! The phone's signalling connection: a UDP socket or a TCP connection that the endpoint's messages
//! travel on.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use bytes::Bytes;
use socket2::{Domain, Protocol, Socket, Type};

use crate::load::options::TransportChoice;
use crate::sip::{Flow, Framer, Transport};

/// The longest datagram read.
const DATAGRAM_MAX: usize = 65_536;
/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The most bytes that wait for a slow connection.
const BACKLOG_MAX: usize = 256 * 1024;
/// The name of the one flow; zero would mean any.
const FLOW_ID: u32 = 1;

/// One connection to one server.
pub struct Link {
    wire: Wire,
    flow: Flow,
}

enum Wire {
    Udp { socket: UdpSocket, buffer: Box<[u8]> },
    Tcp { stream: TcpStream, framer: Framer, backlog: Vec<u8> },
}

impl Link {
    /// Connects to `remote`, from `local` when it is given.
    ///
    /// # Errors
    /// When the address cannot be used, or a TCP connection is refused.
    pub fn open(transport: TransportChoice, remote: SocketAddr, local: Option<IpAddr>) -> io::Result<Link> {
        let any: IpAddr =
            if remote.is_ipv4() { [0, 0, 0, 0].into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
        let from = SocketAddr::new(local.unwrap_or(any), 0);
        match transport {
            TransportChoice::Udp => {
                let socket = UdpSocket::bind(from)?;
                // Connected, the kernel tells us when nobody listens there.
                socket.connect(remote)?;
                socket.set_nonblocking(true)?;
                let flow =
                    Flow { transport: Transport::Udp, id: FLOW_ID, local: socket.local_addr()?, remote };
                Ok(Link { wire: Wire::Udp { socket, buffer: vec![0; DATAGRAM_MAX].into() }, flow })
            }
            TransportChoice::Tcp => {
                let socket = Socket::new(Domain::for_address(remote), Type::STREAM, Some(Protocol::TCP))?;
                socket.bind(&from.into())?;
                socket.connect_timeout(&remote.into(), CONNECT_TIMEOUT)?;
                socket.set_tcp_nodelay(true)?;
                socket.set_nonblocking(true)?;
                let stream = TcpStream::from(socket);
                let flow =
                    Flow { transport: Transport::Tcp, id: FLOW_ID, local: stream.local_addr()?, remote };
                Ok(Link { wire: Wire::Tcp { stream, framer: Framer::new(), backlog: Vec::new() }, flow })
            }
        }
    }

    /// The flow's name for the endpoint.
    pub fn flow(&self) -> Flow {
        self.flow
    }

    /// What to wait on for messages.
    pub fn descriptor(&self) -> RawFd {
        match &self.wire {
            Wire::Udp { socket, .. } => socket.as_raw_fd(),
            Wire::Tcp { stream, .. } => stream.as_raw_fd(),
        }
    }

    /// The next message that has arrived, if any.
    ///
    /// # Errors
    /// When nobody listens at the other end, or the connection is closed or cannot be understood.
    pub fn receive(&mut self) -> io::Result<Option<Bytes>> {
        match &mut self.wire {
            Wire::Udp { socket, buffer } => match socket.recv(buffer) {
                Ok(length) => Ok(Some(Bytes::copy_from_slice(&buffer[..length]))),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
                Err(error) => Err(error),
            },
            Wire::Tcp { stream, framer, backlog } => {
                flush(stream, backlog)?;
                read_framed(stream, framer)
            }
        }
    }

    /// Sends a message. A datagram that cannot be sent is lost, as any may be; the endpoint repeats it.
    ///
    /// # Errors
    /// When the connection is closed, or too slow for what is sent.
    pub fn send(&mut self, message: &[u8]) -> io::Result<()> {
        match &mut self.wire {
            Wire::Udp { socket, .. } => {
                let _ = socket.send(message);
                Ok(())
            }
            Wire::Tcp { stream, backlog, .. } => {
                if backlog.len() + message.len() > BACKLOG_MAX {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "the server does not read"));
                }
                backlog.extend_from_slice(message);
                flush(stream, backlog)
            }
        }
    }
}

/// Writes what the connection takes.
fn flush(stream: &mut TcpStream, backlog: &mut Vec<u8>) -> io::Result<()> {
    while !backlog.is_empty() {
        match stream.write(backlog) {
            Ok(written) => drop(backlog.drain(..written)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads until a message is whole or nothing more is there.
fn read_framed(stream: &mut TcpStream, framer: &mut Framer) -> io::Result<Option<Bytes>> {
    let invalid =
        |error: crate::sip::FrameError| io::Error::new(io::ErrorKind::InvalidData, error.to_string());
    loop {
        if let Some(message) = framer.next_message() {
            return message.map(Some).map_err(invalid);
        }
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer) {
            Ok(0) => {
                return Err(io::Error::new(
                    io::ErrorKind::ConnectionAborted,
                    "the server closed the connection",
                ));
            }
            Ok(length) => framer.extend(&buffer[..length]).map_err(invalid)?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    const MESSAGE: &[u8] = b"OPTIONS sip:a@b SIP/2.0\r\nContent-Length: 2\r\n\r\nhi";

    /// Polls until there is a message or an error; bounded by the test's own patience.
    fn wait(link: &mut Link) -> io::Result<Bytes> {
        for _ in 0..5000 {
            if let Some(message) = link.receive()? {
                return Ok(message);
            }
            let mut fd = libc::pollfd { fd: link.descriptor(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one pollfd, alive through the call.
            unsafe { libc::poll(&mut fd, 1, 1) };
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    #[test]
    fn datagrams_go_both_ways_and_a_closed_port_is_noticed() {
        let server = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let address = server.local_addr().expect("its address");
        let mut link = Link::open(TransportChoice::Udp, address, None).expect("a link");
        link.send(MESSAGE).expect("sent");
        let mut buffer = [0; 100];
        let (length, from) = server.recv_from(&mut buffer).expect("received");
        assert_eq!((&buffer[..length], from), (MESSAGE, link.flow().local));
        server.send_to(b"answer", from).expect("sent");
        assert_eq!(wait(&mut link).expect("received"), "answer");
        drop(server);
        link.send(MESSAGE).expect("sent into nothing");
        assert_eq!(wait(&mut link).map_err(|e| e.kind()), Err(io::ErrorKind::ConnectionRefused));
    }

    #[test]
    fn a_stream_is_cut_into_messages_and_its_end_is_noticed() {
        let server = TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut link = Link::open(TransportChoice::Tcp, server.local_addr().expect("its address"), None)
            .expect("a link");
        let (mut stream, _) = server.accept().expect("connected");
        stream.write_all(&[MESSAGE, MESSAGE].concat()).expect("sent");
        assert_eq!(wait(&mut link).expect("received"), MESSAGE);
        assert_eq!(wait(&mut link).expect("received"), MESSAGE);
        drop(stream);
        assert!(wait(&mut link).is_err());
    }
}
