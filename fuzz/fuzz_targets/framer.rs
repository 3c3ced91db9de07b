//! A TCP stream cut into messages: however it arrives, the same messages come out, and they are of
//! the stream, in its order.
#![no_main]

use bytes::Bytes;
use confab::sip::{FrameError, Framer};
use libfuzzer_sys::fuzz_target;

/// What came out: messages, and the fault that ended them.
type Framed = (Vec<Bytes>, Option<FrameError>);

/// Feeds the pieces to a framer.
fn frame<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Framed {
    let (mut framer, mut messages) = (Framer::new(), Vec::new());
    for piece in pieces {
        if let Err(error) = framer.extend(piece) {
            return (messages, Some(error));
        }
        while let Some(message) = framer.next_message() {
            match message {
                Ok(message) => messages.push(message),
                Err(error) => return (messages, Some(error)),
            }
        }
    }
    (messages, None)
}

fuzz_target!(|input: &[u8]| {
    let Some((&size, stream)) = input.split_first() else { return };
    // Small enough that a full buffer is not what differs.
    let stream = stream.get(..60_000).unwrap_or(stream);
    let whole = frame(std::iter::once(stream));
    let pieces = frame(stream.chunks(usize::from(size) + 1));
    assert_eq!(whole, pieces);
    let length: usize = whole.0.iter().map(Bytes::len).sum();
    assert!(length <= stream.len(), "{length} bytes of {}", stream.len());
});
