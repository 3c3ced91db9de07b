//! A leg: one call's media. What comes in is in [`incoming`], what the room hears of it in
//! [`voice`], what goes out in [`outgoing`], what it does alone in [`alone`]; this file puts them
//! together.

pub mod alone;
pub mod incoming;
pub mod outgoing;
pub mod voice;

use std::net::SocketAddr;
use std::sync::Arc;

use super::playout::PlayoutSettings;
use super::ringback::Ringback;
use super::room::RATE_HZ;
use super::shard::{Channel, LegKey, Outbound};
use crate::audio::AudioCodec;
use crate::id::LegId;
use crate::mixer::level;
use crate::mixer::limiter::Limiter;
use crate::mixer::room::Mix;
use crate::plane::{Clip, Hears, LegMedia, LegStats, RtpIdentity, ShardReport};
use crate::rng::Rng;
use crate::rtp::packet::is_rtcp;
use crate::time::{Duration, Instant, Timestamp};
use alone::Alone;
use incoming::Incoming;
use outgoing::Outgoing;
use voice::{Voice, Voiced};

/// What all legs of a shard have in common.
#[derive(Clone, Debug)]
pub struct LegSettings {
    /// The jitter buffer's limits.
    pub playout: PlayoutSettings,
    /// How long neither RTP nor RTCP may come before the call is given up.
    pub media_timeout: Duration,
    /// The domain part of the RTCP CNAME (RFC 7022 §4.2 asks for one that says nothing).
    pub cname: String,
    /// The wall-clock time of [`Instant::ZERO`], for the NTP times of RTCP.
    pub wall_at_zero: Timestamp,
}

/// How often the control plane hears of a leg's quality.
const STATS_EVERY: Duration = Duration::from_secs(5);
/// Smoothing of the level that meters show: about a second.
const LEVEL_SHIFT: u32 = 6;

/// One call's media.
#[derive(Debug)]
pub struct Leg {
    id: LegId,
    room_key: usize,
    media: LegMedia,
    hears: Hears,
    ringback: Option<Ringback>,
    /// Prompts, echo and tones; most legs have none.
    alone: Option<Box<Alone>>,
    incoming: Incoming,
    pub(super) voice: Voice,
    outgoing: Outgoing,
    /// The gain state of this leg's own mix.
    limiter: Limiter,
    media_timeout: Duration,
    wall_at_zero: Timestamp,
    timed_out: bool,
    stats_due: Instant,
    level: u32,
}

/// What came due in a leg besides its audio.
#[derive(Clone, Debug, Default)]
pub struct Due {
    /// Its statistics should be reported.
    pub stats: bool,
    /// Its media has timed out; said once.
    pub media_timeout: bool,
    /// A key press whose end packets were lost was closed by time.
    pub digit: Option<ShardReport>,
}

impl Leg {
    /// A leg in the room `room_key` of its shard.
    #[expect(clippy::too_many_arguments, reason = "each is a value of its own from the AddLeg command")]
    pub fn new(
        now: Instant,
        id: LegId,
        room_key: usize,
        media: LegMedia,
        hears: Hears,
        identity: RtpIdentity,
        settings: &LegSettings,
        rng: &mut Rng,
    ) -> Self {
        let mut leg = Self {
            id,
            room_key,
            incoming: Incoming::new(now, &media, settings.playout),
            outgoing: Outgoing::new(now, &media, identity, &settings.cname, rng),
            media,
            hears: Hears::Nothing,
            ringback: None,
            alone: None,
            voice: Voice::new(),
            limiter: Limiter::default(),
            media_timeout: settings.media_timeout,
            wall_at_zero: settings.wall_at_zero,
            timed_out: false,
            // Spread, so that a thousand calls that began together do not report together.
            stats_due: now + Duration::from_millis(rng.below(STATS_EVERY.as_millis() as u64)),
            level: 0,
        };
        leg.set_hears(hears);
        leg
    }

    /// The leg's id.
    pub fn id(&self) -> LegId {
        self.id
    }

    /// Its room's place in the shard.
    pub fn room_key(&self) -> usize {
        self.room_key
    }

    /// It is in another room now.
    pub(super) fn set_room_key(&mut self, room_key: usize) {
        self.room_key = room_key;
    }

    /// The codec it is sent.
    pub fn codec(&self) -> AudioCodec {
        self.media.codec
    }

    /// Whether it is sent anything.
    pub fn sends(&self) -> bool {
        self.media.send
    }

    /// Whether the room may hear it: it is neither on hold nor outside the mix.
    pub fn is_heard(&self) -> bool {
        self.hears == Hears::Room && self.media.receive
    }

    /// Takes the media that a re-INVITE settled.
    pub fn update(&mut self, now: Instant, media: LegMedia) {
        self.incoming.update(now, &self.media, &media);
        self.outgoing.update(&self.media, &media);
        self.media = media;
    }

    /// Changes what the leg hears.
    pub fn set_hears(&mut self, hears: Hears) {
        self.ringback = match hears {
            Hears::Ringback(cadence) => Some(Ringback::new(cadence, RATE_HZ)),
            Hears::Room | Hears::Nothing | Hears::Echo => None,
        };
        match hears {
            Hears::Echo => drop(self.alone()),
            Hears::Room => self.alone = self.alone.take().filter(|alone| !alone.is_idle()),
            Hears::Ringback(_) | Hears::Nothing => {}
        }
        self.hears = hears;
    }

    fn alone(&mut self) -> &mut Alone {
        self.alone.get_or_insert_default()
    }

    /// Plays a clip to this leg alone. Returns the reports of what is over by it.
    pub fn play(&mut self, play: u64, clip: Arc<Clip>) -> [Option<ShardReport>; 2] {
        let stopped = self.stop_play();
        let refused = self.alone().play(play, clip);
        [stopped, refused.and_then(|_| self.stop_play())]
    }

    /// Presses keys by RFC 4733. Returns the reports of what is over by it.
    pub fn press(&mut self, play: u64, digits: &str, held_ms: u16, gap_ms: u16) -> [Option<ShardReport>; 2] {
        let stopped = self.stop_play();
        let takes = self.event_type().is_some();
        let pressed = takes && self.alone().press(play, digits, held_ms, gap_ms);
        let refused = ShardReport::PlayDone { leg: self.id, play, whole: false, clip: None };
        [stopped, (!pressed).then_some(refused)]
    }

    /// Ends what is played to this leg; its report.
    pub fn stop_play(&mut self) -> Option<ShardReport> {
        let id = self.id;
        self.alone.as_mut()?.stop(id)
    }

    /// The report that what was played is over, once.
    pub fn poll_play_over(&mut self) -> Option<ShardReport> {
        let id = self.id;
        self.alone.as_mut()?.poll_over(id)
    }

    /// Listens for keys pressed as tones, or no longer.
    pub fn listen_for_tones(&mut self, on: bool) {
        self.alone().listen_for_tones(on);
    }

    /// The payload type of the events we send.
    fn event_type(&self) -> Option<u8> {
        self.media.telephone_event_out
    }

    /// Takes one datagram; a key press that ended with it is returned.
    pub fn receive(
        &mut self,
        now: Instant,
        channel: Channel,
        from: Option<SocketAddr>,
        datagram: &[u8],
    ) -> Option<ShardReport> {
        if channel == Channel::Rtcp || is_rtcp(datagram) {
            let wall = self.wall(now);
            self.incoming.receive_rtcp(now, wall, from, datagram, &mut self.outgoing);
            return None;
        }
        self.incoming.receive_rtp(now, from, datagram, &self.media);
        self.poll_digit()
    }

    /// Asks for the memory that the next packet and the next tick need, beyond this value's own, which
    /// it reads.
    pub fn prefetch(&self) {
        self.incoming.prefetch();
        self.voice.prefetch();
    }

    /// Takes the next frame of the leg and says whether its voice is open.
    pub fn listen(&mut self, now: Instant, gate: bool) -> Voiced {
        if self.hears != Hears::Room || !self.media.receive {
            // Not in the mix; what it sends is still taken from the buffer, so that it is in time
            // when it is let in.
            self.voice.rest();
            let incoming = &mut self.incoming;
            match &mut self.alone {
                Some(alone) if self.media.receive => alone.listen(|frame| incoming.pull(now, frame)),
                _ => incoming.discard(now),
            }
            return Voiced::Silent;
        }
        let incoming = &mut self.incoming;
        let voiced = self.voice.listen(gate, |frame| incoming.pull(now, frame));
        let (level, newest) = (self.level, self.voice.mean_square());
        self.level = level - (level >> LEVEL_SHIFT) + (newest >> LEVEL_SHIFT);
        voiced
    }

    /// Writes to `pcm` what only this leg hears; false when it hears what all listeners do.
    pub fn hears_of_its_own(&mut self, mix: &mut Mix, pcm: &mut [i16]) -> bool {
        if let Some(alone) = &mut self.alone {
            if alone.fill(pcm) {
                return true;
            }
            if self.hears == Hears::Echo {
                pcm.copy_from_slice(alone.own());
                return true;
            }
        }
        if let Some(ringback) = &mut self.ringback {
            ringback.fill(pcm);
            return true;
        }
        if self.hears == Hears::Nothing {
            pcm.fill(0);
            return true;
        }
        let Some(own) = self.voice.heard() else { return false };
        mix.without(own, &mut self.limiter, pcm);
        true
    }

    /// Sends one tick's encoded audio.
    pub fn send(&mut self, now: Instant, key: LegKey, payload: &[u8], out: &mut impl Outbound) {
        let event = self.alone.as_mut().and_then(|alone| alone.key_packet(self.outgoing.timestamp()));
        let peer = self.incoming.latch().peer();
        if let (Some(event), Some(peer), Some(payload_type)) = (event, peer, self.event_type()) {
            self.outgoing.send_event(now, key, peer, payload_type, &event, payload.len(), out);
        } else if let Some(peer) = peer {
            self.outgoing.send(now, key, peer, self.media.payload_type_out, payload, out);
        } else {
            self.outgoing.skip(payload.len());
        }
    }

    /// Lets one tick pass in which the leg is sent nothing (hold).
    pub fn skip(&mut self, samples: usize) {
        if let Some(alone) = &mut self.alone {
            alone.skip(self.outgoing.timestamp());
        }
        self.outgoing.skip(samples);
    }

    /// RTCP, timeouts, the socket's filter: everything that comes due besides audio.
    pub fn keep_up(&mut self, now: Instant, key: LegKey, rng: &mut Rng, out: &mut impl Outbound) -> Due {
        if let Some(filter) = self.incoming.poll_filter(now) {
            out.connect(key, filter);
        }
        if now >= self.outgoing.rtcp_due() {
            self.send_rtcp(now, key, false, out);
            self.outgoing.schedule_rtcp(now, rng);
        }
        let mut due = Due { digit: self.expire_digit(now), ..Due::default() };
        if now >= self.stats_due {
            self.stats_due = now + STATS_EVERY;
            due.stats = true;
        }
        // A leg on hold may be silent as long as it likes.
        let held = !self.media.send || !self.media.receive;
        if held {
            self.incoming.forgive_silence(now);
        } else if !self.timed_out && self.incoming.silent_for(now) >= self.media_timeout {
            self.timed_out = true;
            due.media_timeout = true;
        }
        due
    }

    /// The leg's counters so far.
    pub fn take_stats(&mut self) -> LegStats {
        let mut stats = self.incoming.stats();
        self.outgoing.add_stats(&mut stats);
        stats.level_dbov = level::dbov(self.level);
        stats
    }

    /// Says goodbye by RTCP (RFC 3550 §6.6) and gives the final counters.
    pub fn close(&mut self, now: Instant, key: LegKey, out: &mut impl Outbound) -> LegStats {
        self.send_rtcp(now, key, true, out);
        self.take_stats()
    }

    fn send_rtcp(&mut self, now: Instant, key: LegKey, bye: bool, out: &mut impl Outbound) {
        let LegMedia { remote_rtcp, rtcp_mux, .. } = self.media;
        let Some(peer) = self.incoming.latch().rtcp_peer(remote_rtcp, rtcp_mux) else { return };
        let block = self.incoming.report_block(now);
        self.outgoing.send_rtcp((now, self.wall(now)), key, peer, block, bye, out);
    }

    fn wall(&self, now: Instant) -> Timestamp {
        self.wall_at_zero.plus(now.since(Instant::ZERO))
    }

    fn expire_digit(&mut self, now: Instant) -> Option<ShardReport> {
        self.incoming.expire_digit(now);
        self.poll_digit()
    }

    fn poll_digit(&mut self) -> Option<ShardReport> {
        let tone = || self.alone.as_mut().and_then(|alone| alone.poll_pressed());
        let (digit, duration_ms) = self.incoming.poll_digit().or_else(tone)?;
        Some(ShardReport::Digit { leg: self.id, digit, duration_ms })
    }
}
