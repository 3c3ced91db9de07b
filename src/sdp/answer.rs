//! The answerer's half of RFC 3264: which of the offered streams we take and how it will flow.

use std::net::IpAddr;

use super::description::{
    Attribute, Connection, Direction, Media, Origin, SessionDescription, Timing, network_address,
};
use super::formats::{self, Events, Format};
use super::plan::{CodecOrder, MAX_PTIME_MS, MediaPlan, Policy, Refusal, Warning};
use crate::audio::AudioCodec;

/// RTP without SRTP; the second is RTP with early feedback (RFC 4585), which needs nothing of us.
const PLAIN_RTP: [&str; 2] = ["RTP/AVP", "RTP/AVPF"];

/// What one must know of an offer before binding ports for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preview {
    /// The address the peer receives RTP at, for its family; `None` for a host name.
    pub address: Option<IpAddr>,
    /// The peer offers RTP and RTCP on one port.
    pub rtcp_mux: bool,
}

/// The stream of an offer that we take.
struct Stream<'a> {
    index: usize,
    media: &'a Media,
    format: Format,
    address: Option<IpAddr>,
}

/// Looks at an offer before ports are bound. The refusal is the one [`answer`] would give, but for
/// an address family that does not meet ours.
pub fn preview(offer: &SessionDescription, codecs: &[AudioCodec]) -> Result<Preview, Refusal> {
    let stream = choose(offer, codecs, CodecOrder::Offer)?;
    Ok(Preview { address: stream.address, rtcp_mux: stream.media.attribute("rtcp-mux").is_some() })
}

/// Answers an offer: the first audio stream we can take is taken, every other stream is refused in
/// its place with port 0 (RFC 3264 §6). The refusal is for a 488.
pub fn answer(
    offer: &SessionDescription,
    policy: &Policy<'_>,
) -> Result<(SessionDescription, MediaPlan), Refusal> {
    let stream = choose(offer, policy.codecs, policy.codec_order)?;
    let specified = stream.address.filter(|address| !address.is_unspecified());
    if specified.is_some_and(|address| address.is_ipv4() != policy.address.is_ipv4()) {
        return Err(Refusal::new(
            Warning::IncompatibleAddressFormat,
            "the offered address is of another family than ours",
        ));
    }
    let clock = stream.format.codec.clock_rate_hz();
    let events = formats::telephone_event(stream.media, clock).filter(|_| policy.telephone_event);
    let plan = plan_stream(offer, &stream, events, policy);
    let taken = describe_stream(&stream, events, &plan, policy);
    let media = offer
        .media
        .iter()
        .enumerate()
        .map(|(index, media)| if index == stream.index { taken.clone() } else { refused(media) });
    // RFC 3264 §6: the answer's t= lines equal the offer's.
    let timings = if offer.timings.is_empty() { vec![Timing::default()] } else { offer.timings.clone() };
    let answer = SessionDescription { timings, media: media.collect(), ..empty(policy) };
    Ok((answer, plan))
}

/// A description of ours without media.
pub(super) fn empty(policy: &Policy<'_>) -> SessionDescription {
    SessionDescription {
        origin: Origin {
            username: "-".to_owned(),
            session_id: policy.session_id.to_string(),
            version: policy.session_version.to_string(),
            address: network_address(policy.address),
        },
        name: "-".to_owned(),
        connection: Some(Connection::new(policy.address)),
        timings: vec![Timing::default()],
        attributes: Vec::new(),
        media: Vec::new(),
    }
}

/// The attributes after the formats, in offers and answers alike; `rtcp_port` when it must be named.
pub(super) fn push_transport(
    media: &mut Media,
    ptime_ms: u16,
    direction: Direction,
    rtcp_mux: bool,
    rtcp_port: Option<u16>,
) {
    media.attributes.push(Attribute::value("ptime", ptime_ms));
    media.attributes.push(Attribute::value("maxptime", MAX_PTIME_MS));
    media.attributes.push(Attribute::flag(direction.name()));
    if rtcp_mux {
        media.attributes.push(Attribute::flag("rtcp-mux"));
    }
    if let Some(port) = rtcp_port {
        media.attributes.push(Attribute::value("rtcp", port));
    }
}

/// The first audio stream of the offer we can take, or the first reason why we can take none.
fn choose<'a>(
    offer: &'a SessionDescription,
    wanted: &[AudioCodec],
    order: CodecOrder,
) -> Result<Stream<'a>, Refusal> {
    let mut reason = None;
    for (index, media) in offer.media.iter().enumerate() {
        // Port 0 in an offer is a stream of an earlier exchange that has ended (RFC 3264 §8.2).
        if !media.is_audio() || media.port == 0 {
            continue;
        }
        match acceptable(offer, media, wanted, order) {
            Ok((format, address)) => {
                return Ok(Stream { index, media, format, address });
            }
            Err(refusal) => reason = reason.or(Some(refusal)),
        }
    }
    Err(reason.unwrap_or(Refusal::new(
        Warning::MediaTypeNotAvailable,
        "no audio stream is offered; only audio is available",
    )))
}

/// The codec and address to take `media` with.
fn acceptable(
    offer: &SessionDescription,
    media: &Media,
    wanted: &[AudioCodec],
    order: CodecOrder,
) -> Result<(Format, Option<IpAddr>), Refusal> {
    check_protocol(media)?;
    let address = formats::unicast_address(offer, media)?;
    let found = formats::codecs(media, wanted);
    let format = match order {
        CodecOrder::Offer => found.first(),
        CodecOrder::Ours => {
            wanted.iter().find_map(|codec| found.iter().find(|format| format.codec == *codec))
        }
    };
    let format = format
        .copied()
        .ok_or(Refusal::new(Warning::IncompatibleMediaFormat, "no offered audio codec is available"))?;
    Ok((format, address))
}

/// Only plain RTP is spoken.
pub(super) fn check_protocol(media: &Media) -> Result<(), Refusal> {
    if PLAIN_RTP.iter().any(|name| media.protocol.eq_ignore_ascii_case(name)) {
        return Ok(());
    }
    Err(Refusal::new(Warning::IncompatibleTransport, "the offered transport is not available; RTP/AVP is"))
}

/// The direction an author really means: `c=0.0.0.0` is how RFC 2543 said "send me nothing".
pub(super) fn meant_direction(
    description: &SessionDescription,
    media: &Media,
    address: Option<IpAddr>,
) -> Direction {
    let said = description.direction_of(media);
    let reachable = address.is_none_or(|address| !address.is_unspecified());
    Direction::new(said.sends(), said.receives() && reachable)
}

fn plan_stream(
    offer: &SessionDescription,
    stream: &Stream<'_>,
    events: Option<Events>,
    policy: &Policy<'_>,
) -> MediaPlan {
    let Stream { media, format, address, .. } = *stream;
    let direction = meant_direction(offer, media, address);
    let rtcp_mux = policy.rtcp_mux && media.attribute("rtcp-mux").is_some();
    let remote_rtp = formats::remote(address, media.port);
    let event_type = events.map(|events| events.payload_type);
    MediaPlan {
        remote_rtp,
        remote_rtcp: if rtcp_mux { remote_rtp } else { formats::remote_rtcp(media, address) },
        rtcp_mux,
        codec: format.codec,
        // RFC 3264 §6.1: the answer keeps the offer's numbers.
        payload_type_in: format.payload_type,
        payload_type_out: format.payload_type,
        telephone_event: event_type,
        telephone_event_out: event_type,
        ptime_ms: formats::packet_time_ms(offer, media, policy.ptime_ms),
        send: direction.receives(),
        receive: direction.sends(),
        on_hold: !direction.receives(),
    }
}

/// The stream we take, as the answer describes it: one codec, so that both sides send the same.
fn describe_stream(
    stream: &Stream<'_>,
    events: Option<Events>,
    plan: &MediaPlan,
    policy: &Policy<'_>,
) -> Media {
    let mut media = Media {
        kind: stream.media.kind.clone(),
        port: policy.rtp_port,
        protocol: stream.media.protocol.clone(),
        ..Media::default()
    };
    formats::push_codec(&mut media, stream.format);
    if let Some(events) = events {
        formats::push_events(&mut media, events, stream.format.codec.clock_rate_hz());
    }
    let direction = Direction::new(plan.send, plan.receive);
    let rtcp_port = policy.unusual_rtcp_port().filter(|_| !plan.rtcp_mux);
    push_transport(&mut media, plan.ptime_ms, direction, plan.rtcp_mux, rtcp_port);
    media
}

/// A stream we do not take: port 0, and its formats as they came (RFC 3264 §6).
fn refused(media: &Media) -> Media {
    Media { port: 0, connection: None, attributes: Vec::new(), ..media.clone() }
}
