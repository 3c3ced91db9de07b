//! Cuts the encoded audio of each tick into packets of the peer's ptime (RFC 3551 §4.2).

/// The most audio in one packet: 60 ms of an 8 kHz, one byte per sample codec.
const PACKET_MAX: usize = 480;
/// A packet is held when a tick's audio does not end on its boundary: at most one less than a whole.
const HELD_MAX: usize = PACKET_MAX;

/// The encoded audio not sent yet. Holds only codecs whose bytes are a stream of samples (G.711).
#[derive(Debug)]
pub struct Packetizer {
    /// Bytes per packet.
    size: usize,
    /// Allocated only when packets do not match ticks.
    held: Vec<u8>,
}

impl Packetizer {
    /// Packets of `ptime_ms` at `bytes_per_ms`; `tick_ms` is how much audio comes at a time.
    pub fn new(ptime_ms: u16, tick_ms: u16, bytes_per_ms: usize) -> Self {
        let size = (usize::from(ptime_ms) * bytes_per_ms).clamp(1, PACKET_MAX);
        let held = if ptime_ms == tick_ms { Vec::new() } else { Vec::with_capacity(HELD_MAX) };
        Self { size, held }
    }

    /// Bytes waiting for the rest of their packet.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Takes one tick's encoded audio and hands each full packet to `send`.
    pub fn push(&mut self, mut encoded: &[u8], mut send: impl FnMut(&[u8])) {
        if !self.held.is_empty() {
            let missing = (self.size - self.held.len()).min(encoded.len());
            let (first, rest) = encoded.split_at(missing);
            self.held.extend_from_slice(first);
            encoded = rest;
            if self.held.len() == self.size {
                send(&self.held);
                self.held.clear();
            }
        }
        let mut packets = encoded.chunks_exact(self.size);
        packets.by_ref().for_each(&mut send);
        self.held.extend_from_slice(packets.remainder());
    }

    /// Drops what is held: the stream stops (hold) or changes codec.
    pub fn clear(&mut self) {
        self.held.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes out of `ticks` ticks of 20 ms, as packet lengths per tick, and all bytes in order.
    fn packets(ptime_ms: u16, ticks: u16) -> (Vec<Vec<usize>>, Vec<u8>) {
        let mut packetizer = Packetizer::new(ptime_ms, 20, 8);
        let mut all = Vec::new();
        let lengths = (0..ticks)
            .map(|tick| {
                let mut lengths = Vec::new();
                packetizer.push(&[tick as u8; 160], |packet| {
                    lengths.push(packet.len());
                    all.extend_from_slice(packet);
                });
                lengths
            })
            .collect();
        (lengths, all)
    }

    #[test]
    fn every_ptime_gets_packets_of_its_own_size_and_no_byte_is_lost() {
        for (ptime, first_ticks) in [
            (10, vec![vec![80, 80], vec![80, 80], vec![80, 80]]),
            (20, vec![vec![160], vec![160], vec![160]]),
            (30, vec![vec![], vec![240], vec![240]]),
            (40, vec![vec![], vec![320], vec![]]),
            (50, vec![vec![], vec![], vec![400]]),
            (60, vec![vec![], vec![], vec![480]]),
        ] {
            let (lengths, all) = packets(ptime, 30);
            assert_eq!(lengths[..3], first_ticks, "ptime {ptime}");
            assert!(all.chunks(160).enumerate().all(|(tick, bytes)| bytes.iter().all(|&b| b == tick as u8)));
            assert_eq!(all.len(), 30 * 160 / (ptime as usize * 8) * (ptime as usize * 8), "ptime {ptime}");
        }
    }

    #[test]
    fn a_matching_ptime_holds_no_memory() {
        assert_eq!(Packetizer::new(20, 20, 8).held.capacity(), 0);
    }
}
