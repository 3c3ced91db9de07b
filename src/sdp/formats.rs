//! What the formats and attributes of one audio stream mean: codecs, key presses, packet times.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use super::description::{Address, Attribute, Media, SessionDescription};
use super::plan::{MAX_PTIME_MS, MIN_PTIME_MS, Refusal, Warning};
use crate::audio::AudioCodec;

/// The name of RFC 4733 events in `rtpmap`.
const TELEPHONE_EVENT: &str = "telephone-event";
/// Packet times are multiples of this, in milliseconds.
const PTIME_STEP_MS: u16 = 10;
/// RFC 4733 §3.2's events 0 to 15, one bit each: the keys. What `fmtp` means when it is missing.
const ALL_KEYS: u16 = 0xffff;

/// A codec under the payload type a description gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Format {
    pub payload_type: u8,
    pub codec: AudioCodec,
}

/// RFC 4733 events under the payload type a description gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Events {
    pub payload_type: u8,
    /// The keys 0 to 15, one bit each.
    pub keys: u16,
}

/// Those of `wanted` that `media` offers, in its order.
pub(super) fn codecs(media: &Media, wanted: &[AudioCodec]) -> Vec<Format> {
    let format = |text: &String| {
        let payload_type = payload_type(text)?;
        let codec = wanted.iter().copied().find(|codec| is_codec(media, payload_type, *codec))?;
        Some(Format { payload_type, codec })
    };
    media.formats.iter().filter_map(format).collect()
}

/// The events that `media` offers at `clock_rate_hz`, if they include a key at all.
pub(super) fn telephone_event(media: &Media, clock_rate_hz: u32) -> Option<Events> {
    let events = |text: &String| {
        let payload_type = payload_type(text)?;
        let (name, rate, _) = rtpmap(media, payload_type)?;
        let named = name.eq_ignore_ascii_case(TELEPHONE_EVENT) && rate == clock_rate_hz;
        named.then_some(Events { payload_type, keys: event_keys(media, payload_type) })
    };
    media.formats.iter().find_map(events).filter(|events| events.keys != 0)
}

/// A payload type is 0 to 127.
fn payload_type(text: &str) -> Option<u8> {
    text.parse().ok().filter(|number| *number < 128)
}

/// Whether that payload type is `codec`: by its `rtpmap`, else by RFC 3551's static table.
fn is_codec(media: &Media, payload_type: u8, codec: AudioCodec) -> bool {
    match rtpmap(media, payload_type) {
        Some((name, rate, channels)) => {
            name.eq_ignore_ascii_case(codec.encoding_name()) && rate == codec.clock_rate_hz() && channels == 1
        }
        None => codec.static_payload_type() == Some(payload_type),
    }
}

/// `a=rtpmap:<payload type> <name>/<clock rate>[/<channels>]` (RFC 8866 §6.6).
fn rtpmap(media: &Media, payload_type: u8) -> Option<(&str, u32, u32)> {
    let value = parameters(media, "rtpmap", payload_type)?;
    let mut parts = value.split('/').map(str::trim);
    let (name, rate) = (parts.next()?, parts.next()?.parse().ok()?);
    let channels = parts.next().map_or(Some(1), |channels| channels.parse().ok())?;
    Some((name, rate, channels))
}

/// What follows the payload type in the attribute `name` for it.
fn parameters<'a>(media: &'a Media, name: &str, payload_type: u8) -> Option<&'a str> {
    media.attributes.iter().filter(|attribute| attribute.name.eq_ignore_ascii_case(name)).find_map(
        |attribute| {
            let (number, rest) = attribute.value.as_deref()?.split_once([' ', '\t'])?;
            (number.parse() == Ok(payload_type)).then_some(rest.trim())
        },
    )
}

/// The keys of `a=fmtp:<payload type> 0-11,13` (RFC 4733 §2.4.1); all of them when it says nothing
/// one can read.
fn event_keys(media: &Media, payload_type: u8) -> u16 {
    let Some(list) = parameters(media, "fmtp", payload_type) else {
        return ALL_KEYS;
    };
    let mut readable = false;
    let mut keys = 0;
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Ok(first), Ok(last)) = (first.trim().parse::<u8>(), last.trim().parse::<u8>()) else {
            continue;
        };
        readable = true;
        for key in first..=last.min(15) {
            keys |= 1 << key;
        }
    }
    if readable { keys } else { ALL_KEYS }
}

/// `0-11,13`: the form [`event_keys`] reads.
fn key_list(keys: u16) -> String {
    let mut list = String::new();
    let has = |key: u32| key < 16 && keys & (1 << key) != 0;
    let mut key = 0;
    while key < 16 {
        let first = key;
        while has(key) {
            key += 1;
        }
        if key > first {
            let comma = if list.is_empty() { "" } else { "," };
            let range = if key - first == 1 { String::new() } else { format!("-{}", key - 1) };
            write!(list, "{comma}{first}{range}").expect("writing to a String cannot fail");
        }
        key += 1;
    }
    list
}

/// Adds a codec to the stream we describe.
pub(super) fn push_codec(media: &mut Media, format: Format) {
    let Format { payload_type, codec } = format;
    media.formats.push(payload_type.to_string());
    let name = codec.encoding_name();
    let map = format!("{payload_type} {name}/{}", codec.clock_rate_hz());
    media.attributes.push(Attribute::value("rtpmap", map));
}

/// Adds key presses to the stream we describe.
pub(super) fn push_events(media: &mut Media, events: Events, clock_rate_hz: u32) {
    let Events { payload_type, keys } = events;
    media.formats.push(payload_type.to_string());
    let map = format!("{payload_type} {TELEPHONE_EVENT}/{clock_rate_hz}");
    media.attributes.push(Attribute::value("rtpmap", map));
    media.attributes.push(Attribute::value("fmtp", format!("{payload_type} {}", key_list(keys))));
}

/// All keys under `payload_type`, for an offer.
pub(super) const fn all_events(payload_type: u8) -> Events {
    Events { payload_type, keys: ALL_KEYS }
}

/// Milliseconds of audio per packet the author of `media` is to be sent: its `ptime`, within its
/// `maxptime` and ours, down to a multiple of 10; `default_ms` when it has no wish (RFC 8866 §6.4).
pub(super) fn packet_time_ms(description: &SessionDescription, media: &Media, default_ms: u16) -> u16 {
    let wish = |name| {
        let value = description.inherited_value(media, name)?;
        let digits = value.split(|c: char| !c.is_ascii_digit()).next()?;
        // A number too large for u16 is as good as the largest; zero and no number are no wish.
        let all_digits = !digits.is_empty();
        all_digits.then(|| digits.parse().unwrap_or(u16::MAX)).filter(|ms| *ms > 0)
    };
    let most = wish("maxptime").unwrap_or(MAX_PTIME_MS);
    let ms = wish("ptime").unwrap_or(default_ms).min(most);
    (ms / PTIME_STEP_MS * PTIME_STEP_MS).clamp(MIN_PTIME_MS, MAX_PTIME_MS)
}

/// The IP address `media` is received at, or why there is none that media can go to; `None` for a
/// host name.
pub(super) fn unicast_address(
    description: &SessionDescription,
    media: &Media,
) -> Result<Option<IpAddr>, Refusal> {
    let connection = description
        .connection_of(media)
        .ok_or(Refusal::new(Warning::ParameterNotUnderstood, "the audio stream has no connection address"))?;
    match connection.address {
        Address::Ip(ip) if ip.is_multicast() => {
            Err(Refusal::new(Warning::MulticastNotAvailable, "multicast is not available"))
        }
        Address::Ip(ip) => Ok(Some(ip)),
        Address::Name(_) => Ok(None),
    }
}

/// An address one can send to.
pub(super) fn remote(address: Option<IpAddr>, port: u16) -> Option<SocketAddr> {
    let address = address.filter(|address| !address.is_unspecified())?;
    (port != 0).then(|| SocketAddr::new(address, port))
}

/// Where the author of `media` wants RTCP when it is not multiplexed: its `a=rtcp` (RFC 3605), else
/// the port after RTP's (RFC 3550 §11).
pub(super) fn remote_rtcp(media: &Media, address: Option<IpAddr>) -> Option<SocketAddr> {
    let Some(value) = media.attribute_value("rtcp") else {
        return remote(address, media.port.checked_add(1)?);
    };
    let mut fields = value.split_ascii_whitespace();
    let port = fields.next()?.parse().ok()?;
    let own = fields.nth(2).and_then(|own| own.parse().ok());
    remote(own.or(address), port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn media(lines: &str) -> Media {
        let text = format!("v=0\nm=audio 4000 RTP/AVP 0 8 96 101\n{lines}");
        super::super::parse(text.as_bytes()).expect("a test's own text").media.remove(0)
    }

    fn ptime(lines: &str) -> u16 {
        packet_time_ms(&SessionDescription::default(), &media(lines), 20)
    }

    #[test]
    fn packet_time_table() {
        for (lines, ms) in [
            ("", 20),
            ("a=ptime:10", 10),
            ("a=ptime:20", 20),
            ("a=ptime:30", 30),
            ("a=ptime:60", 60),
            ("a=ptime:25", 20),
            ("a=ptime:29.9", 20),
            ("a=ptime:5", 10),
            ("a=ptime:0", 20),
            ("a=ptime:abc", 20),
            ("a=ptime", 20),
            ("a=ptime: 40", 40),
            ("a=ptime:200", 60),
            ("a=ptime:99999999", 60),
            ("a=maxptime:10", 10),
            ("a=maxptime:150", 20),
            ("a=ptime:60\na=maxptime:40", 40),
            ("a=ptime:60\na=maxptime:35", 30),
            ("a=ptime:20\na=maxptime:4", 10),
            ("a=PTIME:30", 30),
        ] {
            assert_eq!(ptime(lines), ms, "{lines:?}");
        }
    }

    #[test]
    fn packet_time_may_stand_at_session_level() {
        let text = "v=0\na=ptime:30\nm=audio 4000 RTP/AVP 0\n";
        let description = super::super::parse(text.as_bytes()).expect("valid");
        assert_eq!(packet_time_ms(&description, &description.media[0], 20), 30);
    }

    #[test]
    fn codecs_by_static_number_or_by_map() {
        let both = [AudioCodec::Pcmu, AudioCodec::Pcma];
        let found = |lines: &str| -> Vec<(u8, AudioCodec)> {
            codecs(&media(lines), &both).iter().map(|f| (f.payload_type, f.codec)).collect()
        };
        assert_eq!(found(""), [(0, AudioCodec::Pcmu), (8, AudioCodec::Pcma)]);
        assert_eq!(
            found("a=rtpmap:0 pcmu/8000/1\na=rtpmap:96 PCMA/8000"),
            [(0, AudioCodec::Pcmu), (8, AudioCodec::Pcma), (96, AudioCodec::Pcma)]
        );
        assert_eq!(found("a=rtpmap:0 PCMU/16000\na=rtpmap:8 PCMA/8000/2"), []);
    }

    #[test]
    fn events_need_their_clock_and_a_key() {
        let found = |lines: &str| telephone_event(&media(lines), 8000);
        let keys = |keys| Some(Events { payload_type: 101, keys });
        assert_eq!(found(""), None);
        assert_eq!(found("a=rtpmap:101 telephone-event/48000"), None);
        assert_eq!(found("a=rtpmap:101 Telephone-Event/8000"), keys(0xffff));
        let with = |fmtp: &str| found(&format!("a=rtpmap:101 telephone-event/8000\na=fmtp:101 {fmtp}"));
        assert_eq!(with("0-15"), keys(0xffff));
        assert_eq!(with("0-16"), keys(0xffff));
        assert_eq!(with("0-11,13 , 66"), keys(0x2fff));
        assert_eq!(with("events"), keys(0xffff));
        assert_eq!(with("15-0"), None);
        assert_eq!(with("32-36"), None);
    }

    #[test]
    fn a_key_list_reads_back_as_the_same_keys() {
        for (keys, text) in [(0xffff, "0-15"), (0x2fff, "0-11,13"), (0x8001, "0,15"), (0x0006, "1-2")] {
            assert_eq!(key_list(keys), text);
            let map = format!("a=rtpmap:101 telephone-event/8000\na=fmtp:101 {text}");
            assert_eq!(telephone_event(&media(&map), 8000).map(|e| e.keys), Some(keys));
        }
    }

    #[test]
    fn rtcp_is_next_to_rtp_or_where_its_attribute_says() {
        let here: Option<IpAddr> = Some(IpAddr::from([192, 0, 2, 1]));
        let to = |lines: &str| remote_rtcp(&media(lines), here).map(|a| a.to_string());
        assert_eq!(to("").as_deref(), Some("192.0.2.1:4001"));
        assert_eq!(to("a=rtcp:53020").as_deref(), Some("192.0.2.1:53020"));
        assert_eq!(to("a=rtcp:5 IN IP4 192.0.2.9").as_deref(), Some("192.0.2.9:5"));
        assert_eq!(to("a=rtcp:5 IN IP6 2001:db8::9").as_deref(), Some("[2001:db8::9]:5"));
        assert_eq!(to("a=rtcp:0"), None);
        assert_eq!(to("a=rtcp:x"), None);
        assert_eq!(remote_rtcp(&media(""), Some(IpAddr::from([0, 0, 0, 0]))), None);
    }
}
