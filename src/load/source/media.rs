//! The sound of the load source: what is sent in each slot, and what is noted of what comes back.

use std::ops::Range;

use super::call::{Call, Listener, Room, SentTurn};
use super::heard::SAMPLE_LEN;
use super::meter::{Meter, Window};
use super::wires::Wires;
use crate::audio::AudioCodec;
use crate::codec::g711;
use crate::load::marker::Turn;
use crate::load::network::{Network, NetworkOptions};
use crate::load::tone::{PERIOD, TONES, encoded_period, room_amplitude, tone_hz};
use crate::rtp::packet::{HEADER_LEN, RtpHeader, RtpPacket, is_rtcp, write_header};
use crate::time::{Duration, Instant};

/// Samples in a millisecond of G.711.
const SAMPLES_PER_MS: usize = 8;
/// The longest packet: 60 ms.
const PAYLOAD_MAX: usize = 60 * SAMPLES_PER_MS;
/// What turns the phase of both laws: the sign bit.
const SIGN: u8 = 0x80;
/// How long after a turn it is looked for.
const WATCH: Duration = Duration::from_millis(500);
/// The time between two turns of a room: longer than [`WATCH`], so that they cannot be confused.
const TURN_EVERY: Duration = Duration::from_millis(600);
/// The longest a bad network delays a packet, in microseconds, and a slot more.
const DELAY_MAX_US: u64 = 1_000_000;
/// Calls answered for less than this do not count into the gaps of the set-up.
const SETTLED: Duration = Duration::from_millis(1000);

/// What all calls speak, computed beforehand.
#[derive(Debug)]
pub struct Voices {
    /// The codec in both directions.
    pub codec: AudioCodec,
    /// The peak amplitude of each tone.
    pub amplitude: f64,
    payload_len: usize,
    tones: [[u8; PERIOD]; TONES],
    silence: [u8; PERIOD],
}

impl Voices {
    /// The voices for rooms with so many `talkers`, in packets of `ptime_ms`.
    pub fn new(codec: AudioCodec, talkers: usize, ptime_ms: u16) -> Voices {
        let amplitude = room_amplitude(talkers);
        Voices {
            codec,
            amplitude,
            payload_len: (usize::from(ptime_ms) * SAMPLES_PER_MS).min(PAYLOAD_MAX),
            tones: std::array::from_fn(|tone| encoded_period(tone_hz(tone), amplitude, codec)),
            silence: [g711::silence(codec); PERIOD],
        }
    }

    /// One period of what a call speaks now.
    fn period(&self, call: &Call) -> [u8; PERIOD] {
        match call.tone {
            None => self.silence,
            Some(tone) => {
                let sign = if call.speaker.turned { SIGN } else { 0 };
                self.tones[usize::from(tone) % TONES].map(|byte| byte ^ sign)
            }
        }
    }
}

/// How many slots a packet's time has.
pub fn slots_per_packet(slot_us: u64, ptime_ms: u16) -> u16 {
    (u64::from(ptime_ms) * 1000 / slot_us.max(1)).clamp(1, u64::from(u16::MAX)) as u16
}

/// A packet held back by the bad network.
#[derive(Clone, Copy, Debug)]
struct Held {
    call: u32,
    header: RtpHeader,
    period: [u8; PERIOD],
}

/// The sending half.
#[derive(Debug)]
pub struct Sender {
    slot_us: u64,
    /// The calls of each slot of a packet's time.
    groups: Vec<Vec<u32>>,
    network: Option<Network>,
    wheel: Vec<Vec<Held>>,
}

impl Sender {
    /// A sender in slots of `slot_us` for packets every `ptime_ms` through `network`.
    pub fn new(slot_us: u64, ptime_ms: u16, network: NetworkOptions) -> Sender {
        let network = (!network.is_perfect()).then(|| Network::new(network));
        let wheel_slots = if network.is_some() { DELAY_MAX_US / slot_us.max(1) + 2 } else { 0 };
        let groups = vec![Vec::new(); usize::from(slots_per_packet(slot_us, ptime_ms))];
        Sender { slot_us, groups, network, wheel: vec![Vec::new(); wheel_slots as usize] }
    }

    /// From now on `call` sends in its slot.
    pub fn begin(&mut self, index: u32, call: &Call) {
        let slots = self.groups.len().max(1);
        if let Some(group) = self.groups.get_mut(usize::from(call.speaker.slot) % slots) {
            group.push(index);
        }
    }

    /// The calls that send in `slot`.
    pub fn due(&self, slot: u64) -> &[u32] {
        let groups = self.groups.len().max(1) as u64;
        self.groups.get((slot % groups) as usize).map_or(&[], Vec::as_slice)
    }

    /// Queues everything that is due in `slot`, which begins `now`. The caller flushes.
    pub fn send(&mut self, now: Instant, slot: u64, field: &mut Field<'_>, wires: &mut Wires) {
        self.release(slot, field, wires);
        let groups = self.groups.len().max(1) as u64;
        let Some(mut group) = self.groups.get_mut((slot % groups) as usize).map(std::mem::take) else {
            return;
        };
        group.retain(|&index| {
            let Some(call) = field.calls.get_mut(index as usize).filter(|call| call.is_talking()) else {
                return false;
            };
            turn_if_due(now, index, call, field.rooms, field.meter);
            let header = next_header(call, field.voices);
            let period = field.voices.period(call);
            if field.meter.window == Window::Steady {
                field.meter.sent += 1;
            }
            match self.network.as_mut().map(Network::pass) {
                None => transmit(index, call, &header, &period, field.voices, wires),
                Some(None) => {}
                Some(Some(delay)) => {
                    let slots_later = delay.as_micros() as u64 / self.slot_us;
                    let held = Held { call: index, header, period };
                    if slots_later == 0 {
                        transmit(index, call, &header, &period, field.voices, wires);
                    } else {
                        let place = (slot + slots_later) as usize % self.wheel.len().max(1);
                        if let Some(bucket) = self.wheel.get_mut(place) {
                            bucket.push(held);
                        }
                    }
                }
            }
            true
        });
        if let Some(place) = self.groups.get_mut((slot % groups) as usize) {
            *place = group;
        }
    }

    /// Sends what the bad network held back until `slot`.
    fn release(&mut self, slot: u64, field: &mut Field<'_>, wires: &mut Wires) {
        let place = slot as usize % self.wheel.len().max(1);
        let Some(bucket) = self.wheel.get_mut(place) else { return };
        for held in bucket.drain(..) {
            if let Some(call) = field.calls.get(held.call as usize) {
                transmit(held.call, call, &held.header, &held.period, field.voices, wires);
            }
        }
    }
}

/// What sending and receiving both work on.
#[derive(Debug)]
pub struct Field<'a> {
    /// All calls.
    pub calls: &'a mut [Call],
    /// All rooms.
    pub rooms: &'a mut [Room],
    /// What is counted.
    pub meter: &'a mut Meter,
    /// What is spoken.
    pub voices: &'a Voices,
}

/// Turns the call's phase when it is the room's talker whose turn is due.
fn turn_if_due(now: Instant, index: u32, call: &mut Call, rooms: &mut [Room], meter: &mut Meter) {
    let Some(tone) = call.tone else { return };
    let Some(room) = rooms.get_mut(call.room as usize) else { return };
    if room.next_turn.is_none_or(|due| now < due) || room.turner() != Some(index) {
        return;
    }
    call.speaker.turned = !call.speaker.turned;
    let number = room.turn.map_or(0, |turn| turn.number) + 1;
    room.turn = Some(SentTurn { number, call: index, tone, sent: now });
    room.next_turn = Some(now + TURN_EVERY);
    meter.marks += if meter.echo { 1 } else { u64::from(room.talking.saturating_sub(1)) };
}

/// The header of the call's next packet.
fn next_header(call: &mut Call, voices: &Voices) -> RtpHeader {
    let speaker = &mut call.speaker;
    let header = RtpHeader {
        payload_type: voices.codec.static_payload_type().unwrap_or(0),
        marker: false,
        sequence: speaker.sequence,
        timestamp: speaker.timestamp,
        ssrc: speaker.ssrc,
    };
    speaker.sequence = speaker.sequence.wrapping_add(1);
    speaker.timestamp = speaker.timestamp.wrapping_add(voices.payload_len as u32);
    header
}

/// Queues one packet.
fn transmit(
    index: u32,
    call: &Call,
    header: &RtpHeader,
    period: &[u8; PERIOD],
    voices: &Voices,
    wires: &mut Wires,
) {
    let Some(peer) = call.peer else { return };
    let mut packet = [0; HEADER_LEN + PAYLOAD_MAX];
    if let Some(head) = packet.first_chunk_mut::<HEADER_LEN>() {
        write_header(header, head);
    }
    let payload = &mut packet[HEADER_LEN..HEADER_LEN + voices.payload_len];
    payload.chunks_mut(PERIOD).for_each(|part| part.copy_from_slice(&period[..part.len()]));
    wires.send(index, peer, &packet[..HEADER_LEN + voices.payload_len]);
}

/// Notes a datagram that arrived on call `index`'s socket. `sampling` says whether sound is kept for
/// the examination of who hears whom.
pub fn receive(index: u32, datagram: &[u8], now: Instant, sampling: bool, field: &mut Field<'_>) {
    let Some(call) = field.calls.get_mut(index as usize).filter(|call| call.is_talking()) else { return };
    let packet = match RtpPacket::parse(datagram) {
        Ok(packet) if !is_rtcp(datagram) => packet,
        _ => return,
    };
    let meter = &mut *field.meter;
    let own_ssrc = call.speaker.ssrc;
    let settled = call.answered.is_some_and(|answered| now.since(answered) > SETTLED);
    let listener = &mut call.listener;
    if listener.ssrc != Some(packet.header.ssrc) {
        listener.ssrc = Some(packet.header.ssrc);
        listener.window = super::sequence::SequenceWindow::default();
        listener.echo = packet.header.ssrc == own_ssrc;
        meter.echo |= listener.echo;
    }
    note_arrival(listener, packet.header.sequence, now, settled, meter);
    if sampling && listener.sample.len() < SAMPLE_LEN {
        listener.sample.extend_from_slice(packet.payload);
    }
    let turn = field.rooms.get(call.room as usize).and_then(|room| room.turn);
    look_for(turn, index, listener, packet.payload, now, field.voices, meter);
}

/// Counts the packet and the gap before it.
fn note_arrival(listener: &mut Listener, sequence: u16, now: Instant, settled: bool, meter: &mut Meter) {
    let gap = listener.arrived.replace(now).map(|before| now.since(before));
    let mut unmeasured = super::sequence::SequenceCounts::default();
    match meter.window {
        Window::Steady => {
            meter.received += 1;
            listener.window.receive(sequence, &mut meter.sequences);
            gap.into_iter().for_each(|gap| meter.gaps.record(gap));
        }
        Window::SetUp if settled => {
            listener.window.receive(sequence, &mut unmeasured);
            gap.into_iter().for_each(|gap| meter.setup_gaps.record(gap));
        }
        _ => listener.window.receive(sequence, &mut unmeasured),
    }
}

/// Looks for the room's turn in the packet, when there is one that this call should still hear.
fn look_for(
    turn: Option<SentTurn>,
    index: u32,
    listener: &mut Listener,
    payload: &[u8],
    now: Instant,
    voices: &Voices,
    meter: &mut Meter,
) {
    let wanted = turn.filter(|turn| {
        let should_hear = if listener.echo { turn.call == index } else { turn.call != index };
        should_hear && turn.number != listener.found && now.since(turn.sent) < WATCH
    });
    let Some(turn) = wanted else { return listener.finder.skip(payload) };
    let sought = Turn { hz: tone_hz(usize::from(turn.tone)), amplitude: voices.amplitude };
    if let Some(onset) = listener.finder.search(now, payload, voices.codec, &sought) {
        listener.found = turn.number;
        meter.latency.record(onset.latency(turn.sent));
    }
}

/// The tones that a call must hear: those of its room's talkers, without its own; in an echo its
/// own alone.
pub fn tones_for(index: u32, calls: &[Call], room: &Room, echo: bool) -> u32 {
    let speaks = |talker: &u32| {
        calls.get(*talker as usize).filter(|call| call.is_talking()).and_then(|call| call.tone)
    };
    let heard = room.talkers.iter().filter(|talker| (**talker == index) == echo);
    heard.filter_map(speaks).fold(0, |tones, tone| tones | 1 << (usize::from(tone) % TONES))
}

/// When each of `rooms` first turns, spread over half a second from `from` on.
pub fn schedule_turns(rooms: &mut [Room], from: Instant) {
    const SPREAD: Range<u64> = 0..500;
    for (index, room) in rooms.iter_mut().enumerate() {
        let offset_ms = SPREAD.start + index as u64 * 37 % SPREAD.end;
        room.next_turn = Some(from + Duration::from_millis(offset_ms));
    }
}
