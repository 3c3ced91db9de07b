//! The offerer's half of RFC 3264: the offer we make and what its answer settles.

use super::answer::{check_protocol, empty, meant_direction, push_transport};
use super::description::{Direction, Media, SessionDescription};
use super::formats::{self, Format};
use super::plan::{MediaPlan, Policy, Refusal, Warning};
use crate::audio::AudioCodec;

/// The payload type we offer key presses under: the one everybody uses.
const EVENT_PAYLOAD_TYPE: u8 = 101;
/// The first payload type for codecs without a static one (RFC 3551 §6).
const FIRST_DYNAMIC_TYPE: u8 = 96;

/// Offers one audio stream, both ways, with every codec of the policy in its order.
pub fn offer(policy: &Policy<'_>) -> SessionDescription {
    let mut media = Media {
        kind: "audio".to_owned(),
        port: policy.rtp_port,
        protocol: "RTP/AVP".to_owned(),
        ..Media::default()
    };
    let mut dynamic = (FIRST_DYNAMIC_TYPE..128).filter(|number| *number != EVENT_PAYLOAD_TYPE);
    for codec in policy.codecs {
        if let Some(payload_type) = codec.static_payload_type().or_else(|| dynamic.next()) {
            formats::push_codec(&mut media, Format { payload_type, codec: *codec });
        }
    }
    if let (true, Some(codec)) = (policy.telephone_event, policy.codecs.first()) {
        let events = formats::all_events(EVENT_PAYLOAD_TYPE);
        formats::push_events(&mut media, events, codec.clock_rate_hz());
    }
    // RFC 5761 §5.1.1: the answer may not multiplex, so the separate port is named all the same.
    let rtcp_port = policy.unusual_rtcp_port();
    push_transport(&mut media, policy.ptime_ms, Direction::SendRecv, policy.rtcp_mux, rtcp_port);
    SessionDescription { media: vec![media], ..empty(policy) }
}

/// Reads the answer to `offer`, a description of ours. A refusal ends the call: the answer takes
/// nothing we offered, or breaks the rules.
pub fn accept_answer(offer: &SessionDescription, answer: &SessionDescription) -> Result<MediaPlan, Refusal> {
    // Streams are matched by their place (RFC 3264 §6).
    let pairs = offer.media.iter().zip(&answer.media);
    let (ours, theirs) = pairs
        .filter(|(ours, theirs)| ours.port != 0 && ours.is_audio() && theirs.is_audio())
        .find(|(_, theirs)| theirs.port != 0)
        .ok_or(Refusal::new(
            Warning::MediaTypeNotAvailable,
            "the answer takes no audio stream of the offer",
        ))?;
    check_protocol(theirs)?;
    let address = formats::unicast_address(answer, theirs)?;
    let (format_in, format_out) = common_format(ours, theirs)?;
    let clock = format_out.codec.clock_rate_hz();
    let events_in = formats::telephone_event(ours, clock);
    let events_out = formats::telephone_event(theirs, clock);
    let events = events_in.zip(events_out);
    let said = offer.direction_of(ours);
    let meant = meant_direction(answer, theirs, address);
    let muxed = |media: &Media| media.attribute("rtcp-mux").is_some();
    let rtcp_mux = muxed(ours) && muxed(theirs);
    let remote_rtp = formats::remote(address, theirs.port);
    let our_ptime_ms = formats::packet_time_ms(offer, ours, super::plan::DEFAULT_PTIME_MS);
    Ok(MediaPlan {
        remote_rtp,
        remote_rtcp: if rtcp_mux { remote_rtp } else { formats::remote_rtcp(theirs, address) },
        rtcp_mux,
        codec: format_out.codec,
        payload_type_in: format_in.payload_type,
        payload_type_out: format_out.payload_type,
        telephone_event: events.map(|(ours, _)| ours.payload_type),
        telephone_event_out: events.map(|(_, theirs)| theirs.payload_type),
        ptime_ms: formats::packet_time_ms(answer, theirs, our_ptime_ms),
        send: said.sends() && meant.receives(),
        receive: said.receives() && meant.sends(),
        on_hold: !meant.receives(),
    })
}

/// The first codec of the answer that we offered, under our number and under theirs: the answerer
/// may number what it receives anew, but what it sends bears our number (RFC 3264 §6.1).
fn common_format(ours: &Media, theirs: &Media) -> Result<(Format, Format), Refusal> {
    let offered = formats::codecs(ours, &AudioCodec::ALL);
    let pair = formats::codecs(theirs, &AudioCodec::ALL).into_iter().find_map(|theirs| {
        offered.iter().find(|ours| ours.codec == theirs.codec).map(|ours| (*ours, theirs))
    });
    pair.ok_or(Refusal::new(Warning::IncompatibleMediaFormat, "the answer takes no codec of the offer"))
}
