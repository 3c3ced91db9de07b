//! Between SDP and the data plane: a call's offers and answers (RFC 3264), the port they name, and
//! the leg they make.

use std::net::IpAddr;

use bytes::Bytes;

use super::conferencecall::Leg;
use crate::audio::AudioCodec;
use crate::plane::{LegMedia, MediaPort, RtpIdentity};
use crate::rng::Rng;
use crate::sdp::{self, MediaPlan, Policy, Refusal, SdpError, Session, SessionDescription};

/// The media of a call in the data plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LegState {
    /// The port is bound, and ours to give back; what flows is not settled.
    Waiting(MediaPort),
    /// The leg is in its shard, and the port with it.
    Active(Leg),
    /// The shard was told to remove it and has not yet said that it did.
    Closing(Leg),
    /// There is none.
    None,
}

/// A session description we can do nothing with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadSdp {
    /// It is none.
    #[error(transparent)]
    Syntax(#[from] SdpError),
    /// It has no common ground with ours.
    #[error("{}", .0.text)]
    Refused(Refusal),
}

impl From<Refusal> for BadSdp {
    fn from(refusal: Refusal) -> Self {
        BadSdp::Refused(refusal)
    }
}

/// Looks at an offer before a port is bound for it: the address the peer receives at, if it names
/// one, and whether it multiplexes RTCP.
pub(super) fn preview(body: &[u8]) -> Result<(SessionDescription, sdp::Preview), BadSdp> {
    let offer = sdp::parse(body)?;
    let preview = sdp::preview(&offer, &AudioCodec::ALL)?;
    Ok((offer, preview))
}

/// The address we receive media at: the advertised one or the one the peer reached us at, of the
/// family the peer sends from, if either is.
pub(super) fn media_address(advertise: Option<IpAddr>, local: IpAddr, peer: Option<IpAddr>) -> IpAddr {
    let local = local.to_canonical();
    let wanted = peer.filter(|ip| !ip.is_unspecified()).unwrap_or(local);
    let fits = |ip: &IpAddr| ip.is_ipv4() == wanted.is_ipv4();
    advertise.filter(fits).or(Some(local).filter(fits)).unwrap_or(local)
}

/// One call's side of offers and answers.
#[derive(Debug)]
pub(super) struct Negotiation {
    session: Session,
    address: IpAddr,
    port: MediaPort,
    /// Our offer while its answer is awaited.
    offered: Option<SessionDescription>,
}

impl Negotiation {
    /// A call that receives RTP at this address and port.
    pub(super) fn new(address: IpAddr, port: MediaPort, rng: &mut Rng) -> Self {
        // 32 bits: some phones read these numbers into no more.
        let session = Session::new(u64::from(rng.next_u32()), 1);
        Self { session, address, port, offered: None }
    }

    fn policy(&self) -> Policy<'static> {
        Policy { rtcp_port: self.port.rtcp, ..Policy::new(self.address, self.port.rtp) }
    }

    /// Reads an offer and answers it.
    pub(super) fn answer_bytes(&mut self, offer: &[u8]) -> Result<(Bytes, LegMedia), BadSdp> {
        Ok(self.answer(&sdp::parse(offer)?)?)
    }

    /// Answers an offer.
    pub(super) fn answer(&mut self, offer: &SessionDescription) -> Result<(Bytes, LegMedia), Refusal> {
        let (answer, plan) = sdp::answer(offer, &self.policy())?;
        Ok((self.send(&answer), leg_media(&plan)))
    }

    /// Makes an offer; [`Negotiation::take_answer`] reads its answer.
    pub(super) fn offer(&mut self) -> Bytes {
        let offer = sdp::offer(&self.policy());
        let bytes = self.send(&offer);
        self.offered = Some(offer);
        bytes
    }

    /// Whether an offer of ours awaits its answer.
    pub(super) fn awaits_answer(&self) -> bool {
        self.offered.is_some()
    }

    /// Reads the answer to our offer.
    pub(super) fn take_answer(&mut self, answer: &[u8]) -> Result<LegMedia, BadSdp> {
        // Whatever came, the exchange is over.
        let offered = self.offered.take().unwrap_or_default();
        let answer = sdp::parse(answer)?;
        Ok(leg_media(&sdp::accept_answer(&offered, &answer)?))
    }

    fn send(&mut self, description: &SessionDescription) -> Bytes {
        Bytes::from(self.session.next(description).to_string())
    }
}

/// What the data plane needs of a plan. A peer that holds us may send music, which the room must
/// not hear.
fn leg_media(plan: &MediaPlan) -> LegMedia {
    LegMedia {
        codec: plan.codec,
        payload_type_in: plan.payload_type_in,
        payload_type_out: plan.payload_type_out,
        telephone_event: plan.telephone_event,
        telephone_event_out: plan.telephone_event_out,
        ptime_ms: plan.ptime_ms,
        send: plan.send,
        receive: plan.receive && !plan.on_hold,
        remote_rtp: plan.remote_rtp,
        remote_rtcp: plan.remote_rtcp,
        rtcp_mux: plan.rtcp_mux,
    }
}

/// A random start of an RTP stream (RFC 3550 §5.1).
pub(super) fn rtp_identity(rng: &mut Rng) -> RtpIdentity {
    RtpIdentity { ssrc: rng.next_u32(), sequence: rng.next_u32() as u16, timestamp: rng.next_u32() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\n\
        m=audio 4000 RTP/AVP 8\r\n";

    fn negotiation() -> Negotiation {
        let port = MediaPort { token: 1, rtp: 20_000, rtcp: Some(20_001) };
        Negotiation::new(IpAddr::from([192, 0, 2, 1]), port, &mut Rng::from_number(1))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn the_address_is_of_the_familys_peer_and_advertised_when_it_can() {
        let (four, six, public) = (ip("192.0.2.1"), ip("2001:db8::1"), ip("203.0.113.7"));
        assert_eq!(media_address(None, four, None), four);
        assert_eq!(media_address(Some(public), four, Some(ip("192.0.2.9"))), public);
        assert_eq!(media_address(Some(public), six, None), six);
        assert_eq!(media_address(Some(public), six, Some(ip("192.0.2.9"))), public);
        assert_eq!(media_address(None, six, Some(ip("192.0.2.9"))), six);
        assert_eq!(media_address(None, ip("::ffff:192.0.2.1"), Some(ip("0.0.0.0"))), four);
    }

    #[test]
    fn a_peer_that_holds_us_is_neither_sent_to_nor_heard() {
        for (line, send, receive) in [
            ("sendrecv", true, true),
            ("sendonly", false, false),
            ("inactive", false, false),
            ("recvonly", true, false),
        ] {
            let offer = format!("{OFFER}a={line}\r\n");
            let (_, media) = negotiation().answer_bytes(offer.as_bytes()).expect("a fine offer");
            assert_eq!((media.send, media.receive), (send, receive), "{line}");
        }
    }

    #[test]
    fn a_refused_offer_leaves_the_session_as_it_was() {
        let mut ours = negotiation();
        let (first, _) = ours.answer_bytes(OFFER.as_bytes()).expect("a fine offer");
        assert!(ours.answer_bytes(OFFER.replace(" 8\r", " 18\r").as_bytes()).is_err());
        assert!(matches!(ours.answer_bytes(b"nonsense"), Err(BadSdp::Syntax(_))));
        let (again, _) = ours.answer_bytes(OFFER.as_bytes()).expect("a fine offer");
        assert_eq!(first, again);
    }

    #[test]
    fn the_answer_to_our_offer_settles_the_media() {
        let mut ours = negotiation();
        ours.offer();
        assert!(ours.awaits_answer());
        let media = ours.take_answer(OFFER.as_bytes()).expect("an answer");
        assert_eq!((media.codec, media.remote_rtp), (AudioCodec::Pcma, "192.0.2.9:4000".parse().ok()));
        assert!(!ours.awaits_answer());
    }
}
