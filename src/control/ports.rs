//! Where the bridge's media ports come from: bound here, kept until the media thread takes them.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::net::media::{PortPair, RtpPorts};
use crate::plane::{MediaPort, PortSource, RangeExhausted, ShardCommand};

/// The RTP ranges of both address families, and the sockets bound but not yet handed on.
#[derive(Debug)]
pub struct BoundPorts {
    v4: Option<RtpPorts>,
    v6: Option<RtpPorts>,
    /// By the token that names them to the bridge. Bounded by the calls being set up.
    waiting: HashMap<u32, PortPair>,
    next_token: u32,
}

impl BoundPorts {
    /// Ports from these ranges; a family without one refuses its calls.
    pub fn new(v4: Option<RtpPorts>, v6: Option<RtpPorts>) -> Self {
        Self { v4, v6, waiting: HashMap::new(), next_token: 0 }
    }

    /// The sockets that go with a command.
    pub(super) fn take_for(&mut self, command: &ShardCommand) -> Option<PortPair> {
        match command {
            ShardCommand::AddLeg { port, .. } => self.waiting.remove(&port.token),
            _ => None,
        }
    }
}

impl PortSource for BoundPorts {
    fn bind(&mut self, peer: IpAddr, rtcp_mux: bool) -> Result<MediaPort, RangeExhausted> {
        let range = if peer.is_ipv6() { &mut self.v6 } else { &mut self.v4 };
        let pair = range.as_mut().and_then(|range| range.open(rtcp_mux).ok()).ok_or(RangeExhausted)?;
        let token = self.next_token;
        self.next_token = self.next_token.wrapping_add(1);
        let port = MediaPort { token, rtp: pair.port, rtcp: pair.rtcp.as_ref().map(|_| pair.port + 1) };
        self.waiting.insert(token, pair);
        Ok(port)
    }

    fn release(&mut self, port: MediaPort) {
        self.waiting.remove(&port.token);
    }
}
