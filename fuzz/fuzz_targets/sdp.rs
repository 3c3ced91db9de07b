//! A session description from anyone: read, answered, and the answer read again.
#![no_main]

use confab::audio::AudioCodec;
use confab::sdp::{self, Policy};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(description) = sdp::parse(input) else { return };
    let written = description.to_string();
    let again = sdp::parse(written.as_bytes()).expect("what we write we read");
    assert_eq!(again.to_string(), written);

    let policy = Policy::new([192, 0, 2, 1].into(), 20_000);
    let _ = sdp::preview(&description, &AudioCodec::ALL);
    if let Ok((answer, plan)) = sdp::answer(&description, &policy) {
        assert_eq!(answer.media.len(), description.media.len(), "RFC 3264 §6: a stream for each");
        assert!((10..=60).contains(&plan.ptime_ms) && plan.ptime_ms % 10 == 0);
        let answer = answer.to_string();
        let read = sdp::parse(answer.as_bytes()).expect("what we write we read");
        assert_eq!(read.to_string(), answer);
    }
    let offer = sdp::offer(&policy);
    let _ = sdp::accept_answer(&offer, &description);
});
