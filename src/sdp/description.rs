//! A session description as a value, and its text form (RFC 8866).

use std::fmt;
use std::net::IpAddr;

/// A session description: the session's own lines and its media, in their order. Lines that mean
/// nothing to a call (`i=`, `u=`, `e=`, `p=`, `b=`, `r=`, `z=`, `k=`) are not kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionDescription {
    /// `o=`: who made it, and which version it is.
    pub origin: Origin,
    /// `s=`: the session's name.
    pub name: String,
    /// `c=` at session level: the address of every media that has none of its own.
    pub connection: Option<Connection>,
    /// `t=`, of which there is one, or wrongly none, or more.
    pub timings: Vec<Timing>,
    /// `a=` at session level.
    pub attributes: Vec<Attribute>,
    /// `m=` and what belongs to it.
    pub media: Vec<Media>,
}

/// `o=` (RFC 8866 §5.2). The numbers stay text: some phones write more than 64 bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The user's name, `-` for none.
    pub username: String,
    /// The session's number, the same for all its versions.
    pub session_id: String,
    /// The version's number.
    pub version: String,
    /// The network type, address type and address, as written: `IN IP4 192.0.2.1`.
    pub address: String,
}

/// `c=` (RFC 8866 §5.7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The address, without a multicast address's TTL and count.
    pub address: Address,
}

/// Where media goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An IP address.
    Ip(IpAddr),
    /// A host name, which nobody here resolves.
    Name(String),
}

/// `t=` (RFC 8866 §5.9), in NTP seconds; zero for unbounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// When the session begins.
    pub start: u64,
    /// When it ends.
    pub stop: u64,
}

/// `a=` (RFC 8866 §5.13): a flag or a name with a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// The name, as written.
    pub name: String,
    /// What follows the colon, if there is one.
    pub value: Option<String>,
}

/// `m=` (RFC 8866 §5.14) with its `c=` and `a=` lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Media {
    /// `audio`, `video`, ...
    pub kind: String,
    /// The port; 0 refuses the stream (RFC 3264 §6).
    pub port: u16,
    /// `RTP/AVP` and the like.
    pub protocol: String,
    /// Payload types for RTP, else whatever the protocol says.
    pub formats: Vec<String>,
    /// `c=` of this media.
    pub connection: Option<Connection>,
    /// `a=` of this media.
    pub attributes: Vec<Attribute>,
}

/// Who sends (RFC 3264 §5.1), seen from the one whose description it is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// Both do.
    #[default]
    SendRecv,
    /// Only its author.
    SendOnly,
    /// Only the other side.
    RecvOnly,
    /// Nobody.
    Inactive,
}

impl Default for Origin {
    /// Nobody's: what a description without `o=` has.
    fn default() -> Origin {
        Origin {
            username: "-".to_owned(),
            session_id: "0".to_owned(),
            version: "0".to_owned(),
            address: "IN IP4 0.0.0.0".to_owned(),
        }
    }
}

impl Direction {
    /// The direction in which these ends of the stream flow.
    pub const fn new(sends: bool, receives: bool) -> Direction {
        match (sends, receives) {
            (true, true) => Direction::SendRecv,
            (true, false) => Direction::SendOnly,
            (false, true) => Direction::RecvOnly,
            (false, false) => Direction::Inactive,
        }
    }

    /// Whether its author sends.
    pub const fn sends(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::SendOnly)
    }

    /// Whether its author receives.
    pub const fn receives(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::RecvOnly)
    }

    /// The same stream seen from the other side: what an answerer that goes along with everything
    /// says (RFC 3264 §6.1).
    pub const fn mirrored(self) -> Direction {
        Direction::new(self.receives(), self.sends())
    }

    /// The attribute's name.
    pub const fn name(self) -> &'static str {
        match self {
            Direction::SendRecv => "sendrecv",
            Direction::SendOnly => "sendonly",
            Direction::RecvOnly => "recvonly",
            Direction::Inactive => "inactive",
        }
    }

    fn from_name(name: &str) -> Option<Direction> {
        [Direction::SendRecv, Direction::SendOnly, Direction::RecvOnly, Direction::Inactive]
            .into_iter()
            .find(|direction| name.eq_ignore_ascii_case(direction.name()))
    }
}

impl Attribute {
    /// A flag such as `a=rtcp-mux`.
    pub fn flag(name: &str) -> Attribute {
        Attribute { name: name.to_owned(), value: None }
    }

    /// A value such as `a=ptime:20`.
    pub fn value(name: &str, value: impl fmt::Display) -> Attribute {
        Attribute { name: name.to_owned(), value: Some(value.to_string()) }
    }
}

impl Connection {
    /// The line for a unicast address.
    pub const fn new(address: IpAddr) -> Connection {
        Connection { address: Address::Ip(address) }
    }
}

/// The first attribute of that name; names are compared without regard to case, as some phones do
/// not write them as the registry does.
fn find<'a>(attributes: &'a [Attribute], name: &str) -> Option<&'a Attribute> {
    attributes.iter().find(|attribute| attribute.name.eq_ignore_ascii_case(name))
}

/// The last direction attribute in a list.
fn direction_in(attributes: &[Attribute]) -> Option<Direction> {
    attributes.iter().rev().find_map(|attribute| Direction::from_name(&attribute.name))
}

impl Media {
    /// The first attribute of that name.
    pub fn attribute(&self, name: &str) -> Option<&Attribute> {
        find(&self.attributes, name)
    }

    /// The value of the first attribute of that name.
    pub fn attribute_value(&self, name: &str) -> Option<&str> {
        self.attribute(name)?.value.as_deref()
    }

    /// Whether it is audio.
    pub fn is_audio(&self) -> bool {
        self.kind.eq_ignore_ascii_case("audio")
    }
}

impl SessionDescription {
    /// The address that `media` of this description is received at.
    pub fn connection_of<'a>(&'a self, media: &'a Media) -> Option<&'a Connection> {
        media.connection.as_ref().or(self.connection.as_ref())
    }

    /// The direction of `media`: its own, else the session's, else both ways (RFC 8866 §6.7).
    pub fn direction_of(&self, media: &Media) -> Direction {
        direction_in(&media.attributes).or_else(|| direction_in(&self.attributes)).unwrap_or_default()
    }

    /// The value of an attribute of `media`, else of the session.
    pub(super) fn inherited_value<'a>(&'a self, media: &'a Media, name: &str) -> Option<&'a str> {
        media
            .attribute_value(name)
            .or_else(|| find(&self.attributes, name).and_then(|attribute| attribute.value.as_deref()))
    }
}

/// `IN IP4 192.0.2.1`.
pub(super) fn network_address(address: IpAddr) -> String {
    let family = if address.is_ipv4() { "IP4" } else { "IP6" };
    format!("IN {family} {address}")
}

impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Address::Ip(address) => write!(f, "c={}\r\n", network_address(*address)),
            Address::Name(name) => write!(f, "c=IN IP4 {name}\r\n"),
        }
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "a={}:{value}\r\n", self.name),
            None => write!(f, "a={}\r\n", self.name),
        }
    }
}

impl fmt::Display for Media {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m={} {} {}", self.kind, self.port, self.protocol)?;
        for format in &self.formats {
            write!(f, " {format}")?;
        }
        f.write_str("\r\n")?;
        if let Some(connection) = &self.connection {
            connection.fmt(f)?;
        }
        self.attributes.iter().try_for_each(|attribute| attribute.fmt(f))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "o={} {} {} {}\r\n", self.username, self.session_id, self.version, self.address)
    }
}

/// The text as it goes on the wire, in the order of RFC 8866 §5.
impl fmt::Display for SessionDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v=0\r\n{}s={}\r\n", self.origin, self.name)?;
        if let Some(connection) = &self.connection {
            connection.fmt(f)?;
        }
        for timing in &self.timings {
            write!(f, "t={} {}\r\n", timing.start, timing.stop)?;
        }
        self.attributes.iter().try_for_each(|attribute| attribute.fmt(f))?;
        self.media.iter().try_for_each(|media| media.fmt(f))
    }
}
