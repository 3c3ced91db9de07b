//! The jitter buffer under arbitrary packets and time: frames come whatever happens, and the delay
//! stays within its limit.
#![no_main]

use confab::audio::AudioCodec;
use confab::media::playout::{Playout, PlayoutSettings, Pulled};
use confab::time::{Duration, Instant};
use libfuzzer_sys::fuzz_target;

const FRAME: usize = 160;
/// A packet may be this long; under loss one is held back beyond the limit, for its gap to be mended.
const PACKET_MAX_MS: u32 = 120;

// The input is steps of three bytes: what to do, and with which numbers.
fuzz_target!(|input: &[u8]| {
    let Some((&limit, steps)) = input.split_first() else { return };
    let settings = PlayoutSettings { delay_max_ms: 20 + u32::from(limit) * 2 };
    let mut playout = Playout::new(AudioCodec::Pcmu, settings);
    let mut now = Instant::from_millis(1_000);
    let (mut sequence, mut timestamp) = (0u16, 0u32);
    let payload: [u8; 1500] = std::array::from_fn(|index| index as u8);
    let mut pulls = 0u64;
    for step in steps.chunks_exact(3) {
        let &[deed, a, b] = step else { break };
        let number = u16::from_be_bytes([a, b]);
        match deed % 8 {
            // The next packet, of any length.
            0 | 1 => {
                let length = if deed & 8 == 0 { FRAME } else { usize::from(number) % payload.len() };
                playout.receive(now, sequence, timestamp, &payload[..length]);
                sequence = sequence.wrapping_add(1);
                timestamp = timestamp.wrapping_add(length as u32);
            }
            // Some are lost.
            2 => {
                sequence = sequence.wrapping_add(u16::from(b));
                timestamp = timestamp.wrapping_add(u32::from(b) * FRAME as u32);
            }
            // One from elsewhere in the stream, or from nowhere.
            3 => {
                let apart = i32::from(number as i16);
                let at = timestamp.wrapping_add_signed(apart << (deed >> 4));
                playout.receive(now, sequence.wrapping_add(u16::from(a)), at, &payload[..FRAME]);
            }
            4 => playout.receive_other(sequence.wrapping_add(u16::from(a & 3))),
            5 => now = now + Duration::from_millis(u64::from(number) % 3_000),
            6 if deed == 0xfe => playout.reset(),
            6 if deed == 0xf6 => playout.set_codec(AudioCodec::Pcma),
            // The tick.
            _ => {
                let mut frame = [1; FRAME];
                let pulled = playout.pull(now, &mut frame);
                assert!(pulled != Pulled::Silence || frame == [0; FRAME], "silence is zero");
                now = now + Duration::from_millis(20);
                pulls += 1;
            }
        }
    }
    let stats = playout.stats();
    assert!(stats.target_ms <= settings.delay_max_ms + PACKET_MAX_MS, "{stats:?} of {settings:?}");
    assert!(stats.concealed_ms <= pulls * 20 + 1_000, "{stats:?} after {pulls} ticks");
});
