//! Text from the wire into a [`SessionDescription`]. RFC 8866's grammar is an order of lines; this
//! reader takes them in any order, with any line ending, and skips what it does not know, because
//! phones differ there. It insists on what decides where media goes.

use std::net::IpAddr;

use super::description::{Address, Attribute, Connection, Media, Origin, SessionDescription, Timing};

/// The most bytes of a description we read.
pub const MAX_BYTES: usize = 16 * 1024;
/// The most `m=` lines.
pub const MAX_MEDIA: usize = 32;
/// The most formats on one `m=` line.
pub const MAX_FORMATS: usize = 64;
/// The most `a=` lines in the whole description.
pub const MAX_ATTRIBUTES: usize = 512;
/// The most `t=` lines.
pub const MAX_TIMINGS: usize = 8;

/// Why text is no session description: 400, its body is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SdpError {
    /// More than [`MAX_BYTES`].
    #[error("the session description is too long")]
    TooLong,
    /// No `v=0` line.
    #[error("the session description has no v=0 line")]
    Version,
    /// A line that is no `<letter>=<value>`.
    #[error("the session description has a line that is no type=value")]
    Line,
    /// An `o=` line without its six fields.
    #[error("the session description has a malformed o= line")]
    Origin,
    /// A `c=` line that names no address.
    #[error("the session description has a malformed c= line")]
    Connection,
    /// A `t=` line without two numbers.
    #[error("the session description has a malformed t= line")]
    Timing,
    /// An `m=` line without kind, port, protocol and formats.
    #[error("the session description has a malformed m= line")]
    Media,
    /// More than [`MAX_MEDIA`], [`MAX_FORMATS`], [`MAX_ATTRIBUTES`] or [`MAX_TIMINGS`].
    #[error("the session description has too many lines or formats")]
    TooMany,
}

/// Reads a session description. Bytes that are no UTF-8 (phones write names in Latin-1) are
/// replaced; they matter in no line that decides anything.
pub fn parse(bytes: &[u8]) -> Result<SessionDescription, SdpError> {
    if bytes.len() > MAX_BYTES {
        return Err(SdpError::TooLong);
    }
    let text = String::from_utf8_lossy(bytes);
    let mut reader = Reader::default();
    for line in text.split(['\r', '\n']) {
        reader.read_line(line)?;
    }
    if reader.has_version { Ok(reader.description) } else { Err(SdpError::Version) }
}

#[derive(Default)]
struct Reader {
    description: SessionDescription,
    has_version: bool,
    attributes: usize,
}

impl Reader {
    fn read_line(&mut self, line: &str) -> Result<(), SdpError> {
        let line = trim(line);
        if line.is_empty() {
            return Ok(());
        }
        let (kind, value) = line.split_once('=').ok_or(SdpError::Line)?;
        let value = trim(value);
        match trim(kind) {
            "v" => self.read_version(value),
            "o" => parse_origin(value).map(|origin| self.description.origin = origin),
            "s" => {
                value.clone_into(&mut self.description.name);
                Ok(())
            }
            "c" => self.read_connection(value),
            "t" => self.read_timing(value),
            "m" => self.read_media(value),
            "a" => self.read_attribute(value),
            kind if kind.len() == 1 => Ok(()),
            _ => Err(SdpError::Line),
        }
    }

    fn read_version(&mut self, value: &str) -> Result<(), SdpError> {
        self.has_version = value == "0";
        if self.has_version { Ok(()) } else { Err(SdpError::Version) }
    }

    /// The first `c=` of a level counts: more are for layered multicast (RFC 8866 §5.7).
    fn read_connection(&mut self, value: &str) -> Result<(), SdpError> {
        let connection = parse_connection(value)?;
        let place = match self.description.media.last_mut() {
            Some(media) => &mut media.connection,
            None => &mut self.description.connection,
        };
        place.get_or_insert(connection);
        Ok(())
    }

    fn read_timing(&mut self, value: &str) -> Result<(), SdpError> {
        if self.description.timings.len() == MAX_TIMINGS {
            return Err(SdpError::TooMany);
        }
        let mut numbers = value.split_ascii_whitespace().map(str::parse);
        let (Some(Ok(start)), Some(Ok(stop))) = (numbers.next(), numbers.next()) else {
            return Err(SdpError::Timing);
        };
        self.description.timings.push(Timing { start, stop });
        Ok(())
    }

    fn read_media(&mut self, value: &str) -> Result<(), SdpError> {
        if self.description.media.len() == MAX_MEDIA {
            return Err(SdpError::TooMany);
        }
        self.description.media.push(parse_media(value)?);
        Ok(())
    }

    fn read_attribute(&mut self, value: &str) -> Result<(), SdpError> {
        if self.attributes == MAX_ATTRIBUTES {
            return Err(SdpError::TooMany);
        }
        self.attributes += 1;
        let attribute = match value.split_once(':') {
            Some((name, value)) => Attribute::value(trim(name), trim(value)),
            None => Attribute::flag(value),
        };
        let place = match self.description.media.last_mut() {
            Some(media) => &mut media.attributes,
            None => &mut self.description.attributes,
        };
        place.push(attribute);
        Ok(())
    }
}

/// `<username> <sess-id> <sess-version> IN IP4 <address>`. The fields are counted from the end: the
/// user name may, wrongly, hold blanks or be missing.
fn parse_origin(value: &str) -> Result<Origin, SdpError> {
    let fields: Vec<&str> = value.split_ascii_whitespace().collect();
    let Some((names, [session_id, version, network, family, address])) = fields.split_last_chunk() else {
        return Err(SdpError::Origin);
    };
    Ok(Origin {
        username: if names.is_empty() { "-".to_owned() } else { names.join(" ") },
        session_id: (*session_id).to_owned(),
        version: (*version).to_owned(),
        address: format!("{network} {family} {address}"),
    })
}

/// `IN IP4 <address>[/<ttl>[/<count>]]`. The family is what the address is, whatever the line says.
fn parse_connection(value: &str) -> Result<Connection, SdpError> {
    let mut fields = value.split_ascii_whitespace();
    let (Some(network), Some(_family), Some(address)) = (fields.next(), fields.next(), fields.next()) else {
        return Err(SdpError::Connection);
    };
    if !network.eq_ignore_ascii_case("IN") {
        return Err(SdpError::Connection);
    }
    let bare = address.split('/').next().unwrap_or(address);
    let bare = bare.trim_start_matches('[').trim_end_matches(']');
    let address = match bare.parse::<IpAddr>() {
        Ok(ip) => Address::Ip(ip),
        Err(_) if is_host_name(bare) => Address::Name(bare.to_owned()),
        Err(_) => return Err(SdpError::Connection),
    };
    Ok(Connection { address })
}

/// Without blanks around it, and without the zero bytes that some phones end their text with.
fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || c == '\0')
}

fn is_host_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-')
}

/// `<kind> <port>[/<count>] <protocol> <format> ...`
fn parse_media(value: &str) -> Result<Media, SdpError> {
    let mut fields = value.split_ascii_whitespace();
    let mut next = || fields.next().ok_or(SdpError::Media);
    let (kind, port, protocol) = (next()?, next()?, next()?);
    let port = port.split('/').next().unwrap_or(port);
    let formats: Vec<String> = fields.take(MAX_FORMATS + 1).map(str::to_owned).collect();
    if formats.len() > MAX_FORMATS {
        return Err(SdpError::TooMany);
    }
    if formats.is_empty() {
        return Err(SdpError::Media);
    }
    Ok(Media {
        kind: kind.to_owned(),
        port: port.parse().map_err(|_| SdpError::Media)?,
        protocol: protocol.to_owned(),
        formats,
        connection: None,
        attributes: Vec::new(),
    })
}
