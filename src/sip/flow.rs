//! Where a message came from and where its answers go.

use std::net::SocketAddr;

use bytes::Bytes;

/// The transport protocol of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// Datagrams: one message each, lost and reordered at will.
    Udp,
    /// A stream: messages are framed by [`crate::sip::Framer`].
    Tcp,
}

impl Transport {
    /// Whether the transport itself repeats what is lost (RFC 3261 §17: "reliable").
    pub const fn is_reliable(self) -> bool {
        !matches!(self, Transport::Udp)
    }

    /// The name as a Via header spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
        }
    }
}

/// The listener or connection a message came by, with both ends' addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow {
    /// UDP or TCP.
    pub transport: Transport,
    /// The listener (UDP) or the connection (TCP). [`Flow::ANY`] stands for "any flow of this
    /// transport to `remote`": the shell picks or opens one, and reports by
    /// [`crate::sip::Endpoint::handle_flow_closed`] with this very flow when it cannot.
    pub id: u32,
    /// Our address.
    pub local: SocketAddr,
    /// The peer's address.
    pub remote: SocketAddr,
}

impl Flow {
    /// The `id` of a flow whose connection is gone; real listeners and connections count from 1.
    pub const ANY: u32 = 0;

    /// The same ends, by whatever connection the shell finds or opens.
    pub const fn any(self) -> Flow {
        Flow { id: Flow::ANY, ..self }
    }
}

/// Bytes to send, whole, on a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// On which flow.
    pub flow: Flow,
    /// One message, or a keep-alive answer.
    pub bytes: Bytes,
}
