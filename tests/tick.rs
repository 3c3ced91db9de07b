//! The hot path allocates nothing: every packet received and every tick of a busy shard is run under
//! an allocator that counts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::Arc;

use confab::audio::AudioCodec;
use confab::id::{LegId, RoomId, TapId};
use confab::media::leg::LegSettings;
use confab::media::shard::{Applied, Channel, LegKey, Outbound, SLOT, SLOTS, Shard};
use confab::plane::feed::{Feed, FeedWriter};
use confab::plane::tap::{LegSound, Tap, TapParts, TapReader, TapTick};
use confab::plane::{Clip, Hears, LegMedia, MediaPort, RoomShape, RtpIdentity, ShardCommand, ShardReport};
use confab::rng::Rng;
use confab::time::{Duration, Instant, Timestamp};

/// Counts this thread's allocations.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: hands everything on to the system's allocator; the counter has no destructor and
// allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How many allocations `work` makes.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

/// Counts what is sent and drops it.
#[derive(Default)]
struct Sink {
    rtp: u64,
    rtcp: u64,
}

impl Outbound for Sink {
    fn send(&mut self, _: LegKey, channel: Channel, _: SocketAddr, _: &[u8]) {
        match channel {
            Channel::Rtp => self.rtp += 1,
            Channel::Rtcp => self.rtcp += 1,
        }
    }

    fn connect(&mut self, _: LegKey, _: Option<SocketAddr>) {}
}

/// A phone's packet stream with jitter, loss, reordering, talk and silence, and some digits.
struct Phone {
    key: LegKey,
    address: SocketAddr,
    codec: AudioCodec,
    ptime_ms: u16,
    sequence: u16,
    timestamp: u32,
    next: Instant,
    ssrc: u32,
}

impl Phone {
    /// The packets due at `now`; `write` gets each.
    fn speak(&mut self, now: Instant, rng: &mut Rng, mut write: impl FnMut(&[u8])) {
        while self.next <= now {
            let samples = usize::from(self.ptime_ms) * 8;
            let mut packet = [0u8; 12 + 480];
            let is_digit = self.sequence % 97 < 6;
            packet[0] = 0x80;
            packet[1] = if is_digit { 101 } else { self.codec.static_payload_type().expect("G.711") };
            packet[2..4].copy_from_slice(&self.sequence.to_be_bytes());
            let timestamp = if is_digit { self.timestamp / 16_000 * 16_000 } else { self.timestamp };
            packet[4..8].copy_from_slice(&timestamp.to_be_bytes());
            packet[8..12].copy_from_slice(&self.ssrc.to_be_bytes());
            let length = if is_digit {
                packet[12..16].copy_from_slice(&[5, if self.sequence % 97 > 2 { 0x8a } else { 10 }, 3, 0x20]);
                16
            } else {
                let loud = (self.timestamp / 16_000).is_multiple_of(2);
                packet[12..12 + samples].fill(if loud { 0 } else { 0xff });
                if loud {
                    packet[12..12 + samples]
                        .iter_mut()
                        .for_each(|byte| *byte = 0x90 | (rng.next_u32() as u8 & 0x8f));
                }
                12 + samples
            };
            self.sequence = self.sequence.wrapping_add(1);
            self.timestamp = self.timestamp.wrapping_add(samples as u32);
            let delay = if rng.below(20) == 0 { rng.below(60_000) } else { rng.below(2_000) };
            self.next += Duration::from_millis(u64::from(self.ptime_ms)) + Duration::from_micros(delay)
                - Duration::from_micros(delay.min(1_000));
            if rng.below(20) > 0 {
                write(&packet[..length]);
            }
        }
    }
}

fn shard() -> Shard {
    let settings = LegSettings {
        playout: Default::default(),
        media_timeout: Duration::from_secs(2),
        cname: "confab".to_owned(),
        wall_at_zero: Timestamp::from_micros(1_700_000_000_000_000),
    };
    Shard::new(settings, Rng::from_number(1))
}

fn add(shard: &mut Shard, now: Instant, id: u64, room: u64, ptime_ms: u16) -> Phone {
    let codec = AudioCodec::ALL[id as usize % 2];
    let address: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 10_000 + id as u16));
    let payload_type = codec.static_payload_type().expect("G.711");
    let media = LegMedia {
        codec,
        payload_type_in: payload_type,
        payload_type_out: payload_type,
        telephone_event: Some(101),
        telephone_event_out: Some(101),
        ptime_ms,
        send: true,
        receive: true,
        remote_rtp: Some(address),
        remote_rtcp: Some(address),
        rtcp_mux: true,
    };
    let command = ShardCommand::AddLeg {
        leg: LegId(id),
        room: RoomId(room),
        port: MediaPort { token: 0, rtp: 2, rtcp: None },
        media,
        hears: Hears::Room,
        identity: RtpIdentity { ssrc: 1, sequence: 2, timestamp: 3 },
    };
    let Applied::Added(key) = shard.command(now, command, &mut Sink::default()) else { panic!("not added") };
    Phone { key, address, codec, ptime_ms, sequence: 0, timestamp: 0, next: now, ssrc: id as u32 }
}

/// Taps two rooms for everything: one ring holds all of the test, one is soon full.
fn tap_rooms(shard: &mut Shard, now: Instant) -> [TapReader; 2] {
    [(1, 1 << 13), (2, 1 << 21)].map(|(room, words)| {
        let parts = TapParts { mix: true, sum: true, legs: LegSound::Own };
        let tap = Tap::new(TapId(room), parts, words);
        let start = ShardCommand::StartTap { room: RoomId(room), tap: tap.clone() };
        shard.command(now, start, &mut Sink::default());
        tap.take_reader().expect("nobody else reads")
    })
}

/// Puts a source into a room: it speaks by the first, and hears by the second.
fn add_source(shard: &mut Shard, now: Instant) -> (FeedWriter, TapReader) {
    let (feed, tap) = (Feed::new(), Tap::new(TapId(9), TapParts::default(), 1 << 18));
    let ends = (feed.take_writer().expect("the first"), tap.take_reader().expect("the first"));
    let command = ShardCommand::AddSource { room: RoomId(3), leg: LegId(9999), feed, tap };
    shard.command(now, command, &mut Sink::default());
    ends
}

#[test]
fn neither_a_packet_nor_a_tick_allocates() {
    let mut now = Instant::from_millis(10_000);
    let mut shard = shard();
    let mut phones = Vec::new();
    for room in 0..12 {
        let shape = RoomShape { max_speakers: 3, gate: room != 0 };
        shard.command(now, ShardCommand::OpenRoom { room: RoomId(room), shape }, &mut Sink::default());
        for member in 0..if room == 0 { 2 } else { 10 } {
            phones.push(add(
                &mut shard,
                now,
                room * 10 + member,
                room,
                [20, 20, 10, 30, 60][member as usize % 5],
            ));
        }
    }
    // Some are alone: one hears a prompt, one itself, one is sent keys, one is listened to for tones.
    let clip = Arc::new(Clip::new(8000, vec![1000; 8000]));
    for (place, hears) in
        [(20, Hears::Nothing), (21, Hears::Echo), (22, Hears::Nothing), (23, Hears::Nothing)]
    {
        shard.command(now, ShardCommand::SetHears { leg: LegId(place), hears }, &mut Sink::default());
    }
    let digits = "123".to_owned();
    for command in [
        ShardCommand::Play { leg: LegId(20), play: 1, clip: clip.clone() },
        ShardCommand::SendDigits { leg: LegId(22), play: 2, digits, held_ms: 100, gap_ms: 100 },
        ShardCommand::ListenForTones { leg: LegId(23), on: true },
    ] {
        shard.command(now, command, &mut Sink::default());
    }
    let mut plays_done = 0;
    // One phone falls silent, so that its media timeout is reported as well.
    phones.pop();
    let readers = tap_rooms(&mut shard, now);
    let (mut feed, mut heard) = add_source(&mut shard, now);
    let mut rng = Rng::from_number(2);
    let mut sink = Sink::default();
    let mut counted = 0;
    let mut slot = 0;
    for _ in 0..12_000 / SLOT.as_millis() {
        now += SLOT;
        counted += allocations(|| {
            for phone in &mut phones {
                let (key, address) = (phone.key, phone.address);
                phone.speak(now, &mut rng, |packet| {
                    shard.receive(now, key, Channel::Rtp, Some(address), packet)
                });
            }
            feed.write(&[3000, -3000, 2000, -2000, 1000, -1000, 500, -500]);
            shard.tick(now, slot, &mut sink);
            while let Some(report) = shard.poll_report() {
                plays_done += u32::from(matches!(report, ShardReport::PlayDone { whole: true, .. }));
            }
        });
        slot = (slot + 1) % SLOTS;
    }
    assert!(sink.rtp > 50_000 && sink.rtcp > 100, "the shard did work: {} RTP, {} RTCP", sink.rtp, sink.rtcp);
    assert_eq!((plays_done, Arc::strong_count(&clip)), (2, 1), "plays ended, and gave the clip back");
    assert_eq!(counted, 0, "allocations in 12 s of 111 calls");
    let mut tick = TapTick::default();
    assert!(heard.read(&mut tick), "the source hears");
    let [small, large] = readers.map(|mut reader| {
        let mut tick = TapTick::default();
        let mut read = 0;
        while reader.read(&mut tick) {
            read += 1;
        }
        (read, read + reader.dropped())
    });
    assert!(large == (600, 600), "a tap with room has every tick: {large:?}");
    assert!(small.0 < 100 && small.1 == 600, "a tap that nobody reads drops: {small:?}");
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(5)))), 1);
}
