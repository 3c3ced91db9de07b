//! How a media stream's sound is put into messages, and taken out of them.

use utoipa::ToSchema;

use crate::rtp::packet::{HEADER_LEN, RtpHeader, RtpPacket, write_header};

/// Samples in a message of ours: 20 ms at 8 kHz.
pub(super) const SAMPLES: usize = 160;
/// The payload type of `rtp`.
const PAYLOAD_TYPE: u8 = 96;
/// AudioSocket's kind of sound, and of the end.
const KIND_SOUND: u8 = 0x10;
const KIND_HANG_UP: u8 = 0x00;
/// Bytes before an AudioSocket payload: kind and big-endian length.
const AUDIOSOCKET_HEADER: usize = 3;

/// What is around the samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ToSchema)]
#[schema(rename_all = "lowercase")]
pub(super) enum Encapsulation {
    /// Nothing.
    Sln,
    /// An RTP header.
    Rtp,
    /// AudioSocket's kind and length.
    Audiosocket,
}

impl Encapsulation {
    /// By its name in a request.
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "sln" => Some(Self::Sln),
            "rtp" => Some(Self::Rtp),
            "audiosocket" => Some(Self::Audiosocket),
            _ => None,
        }
    }
}

/// One stream's state.
#[derive(Debug)]
pub(super) struct Wire {
    encapsulation: Encapsulation,
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    /// The beginning of what the next message goes on with; shorter than an AudioSocket frame.
    carry: Vec<u8>,
}

impl Wire {
    pub(super) fn new(encapsulation: Encapsulation, ssrc: u32) -> Self {
        Self { encapsulation, ssrc, sequence: 0, timestamp: 0, carry: Vec::new() }
    }

    /// A message with these samples; without any, with silence.
    pub(super) fn pack(&mut self, frame: Option<&[i16]>) -> Vec<u8> {
        let length = 2 * frame.map_or(SAMPLES, <[i16]>::len);
        let mut message = match self.encapsulation {
            Encapsulation::Sln => Vec::new(),
            Encapsulation::Rtp => self.rtp_header().to_vec(),
            Encapsulation::Audiosocket => {
                let [high, low] = (length as u16).to_be_bytes();
                vec![KIND_SOUND, high, low]
            }
        };
        match frame {
            Some(frame) => message.extend(frame.iter().flat_map(|sample| sample.to_le_bytes())),
            None => message.resize(message.len() + length, 0),
        }
        self.timestamp = self.timestamp.wrapping_add(length as u32 / 2);
        message
    }

    /// Messages that will never be sent: their time has passed.
    pub(super) fn skip(&mut self, messages: u64) {
        self.timestamp = self.timestamp.wrapping_add((messages as u32).wrapping_mul(SAMPLES as u32));
    }

    /// What says that there is no more, where there is such a thing.
    pub(super) fn hang_up(&self) -> Option<Vec<u8>> {
        (self.encapsulation == Encapsulation::Audiosocket).then(|| vec![KIND_HANG_UP, 0, 0])
    }

    /// Takes the samples of a message out. True when it hangs up.
    pub(super) fn unpack(&mut self, message: &[u8], samples: &mut Vec<i16>) -> bool {
        match self.encapsulation {
            Encapsulation::Sln => {
                self.carry.extend(message);
                let odd = self.carry.len() % 2;
                push(&self.carry, samples);
                self.carry.drain(..self.carry.len() - odd);
            }
            Encapsulation::Rtp => {
                if let Ok(packet) = RtpPacket::parse(message)
                    && packet.header.payload_type == PAYLOAD_TYPE
                {
                    push(packet.payload, samples);
                }
            }
            Encapsulation::Audiosocket => {
                self.carry.extend(message);
                return self.unpack_frames(samples);
            }
        }
        false
    }

    fn unpack_frames(&mut self, samples: &mut Vec<i16>) -> bool {
        let mut at = 0;
        while let Some([kind, high, low]) = self.carry[at..].first_chunk::<AUDIOSOCKET_HEADER>() {
            let begin = at + AUDIOSOCKET_HEADER;
            let end = begin + usize::from(u16::from_be_bytes([*high, *low]));
            match *kind {
                KIND_HANG_UP => return true,
                // Ids, digits and errors say nothing to a room.
                kind if end <= self.carry.len() => {
                    if kind == KIND_SOUND {
                        push(&self.carry[begin..end], samples);
                    }
                    at = end;
                }
                _ => break,
            }
        }
        self.carry.drain(..at);
        false
    }

    fn rtp_header(&mut self) -> [u8; HEADER_LEN] {
        let header = RtpHeader {
            payload_type: PAYLOAD_TYPE,
            marker: self.sequence == 0 && self.timestamp == 0,
            sequence: self.sequence,
            timestamp: self.timestamp,
            ssrc: self.ssrc,
        };
        self.sequence = self.sequence.wrapping_add(1);
        let mut bytes = [0; HEADER_LEN];
        write_header(&header, &mut bytes);
        bytes
    }
}

fn push(bytes: &[u8], samples: &mut Vec<i16>) {
    samples.extend(bytes.as_chunks::<2>().0.iter().map(|pair| i16::from_le_bytes(*pair)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    const ALL: [Encapsulation; 3] = [Encapsulation::Sln, Encapsulation::Rtp, Encapsulation::Audiosocket];

    #[test]
    fn what_is_packed_is_unpacked() {
        let frame: [i16; SAMPLES] = std::array::from_fn(|n| (n as i16 - 80) * 400);
        for encapsulation in ALL {
            let (mut out, mut back) = (Wire::new(encapsulation, 1), Wire::new(encapsulation, 2));
            let mut samples = Vec::new();
            for sound in [Some(&frame[..]), None, Some(&frame[..])] {
                let message = out.pack(sound);
                assert!(!back.unpack(&message, &mut samples));
            }
            assert_eq!(samples, [frame, [0; SAMPLES], frame].concat(), "{encapsulation:?}");
        }
    }

    #[test]
    fn each_looks_as_it_should() {
        let frame = [0x0102i16; SAMPLES];
        let pack = |encapsulation| Wire::new(encapsulation, 0xa1b2_c3d4).pack(Some(&frame));
        assert_eq!(pack(Encapsulation::Sln)[..4], [2, 1, 2, 1]);
        assert_eq!(pack(Encapsulation::Audiosocket)[..5], [0x10, 1, 0x40, 2, 1]);
        let mut rtp = Wire::new(Encapsulation::Rtp, 0xa1b2_c3d4);
        rtp.pack(Some(&frame));
        rtp.skip(2);
        let third = rtp.pack(Some(&frame));
        assert_eq!(third[..14], [0x80, 96, 0, 1, 0, 0, 0x01, 0xe0, 0xa1, 0xb2, 0xc3, 0xd4, 2, 1]);
        assert_eq!(rtp.hang_up(), None);
        assert_eq!(Wire::new(Encapsulation::Audiosocket, 0).hang_up(), Some(vec![0, 0, 0]));
    }

    #[test]
    fn frames_may_be_cut_anywhere_and_other_kinds_are_passed_over() {
        let mut bytes = vec![0x01, 0, 16];
        bytes.extend([7; 16]);
        bytes.extend([0x10, 0, 4, 1, 0, 2, 0, 0x03, 0, 1, b'5', 0x10, 0, 2, 3, 0]);
        let mut rng = Rng::from_number(1);
        for _ in 0..200 {
            let (mut wire, mut samples) = (Wire::new(Encapsulation::Audiosocket, 0), Vec::new());
            let mut left = &bytes[..];
            while !left.is_empty() {
                let (now, later) = left.split_at(1 + rng.below(left.len() as u64) as usize);
                assert!(!wire.unpack(now, &mut samples));
                left = later;
            }
            assert_eq!(samples, [1, 2, 3]);
            assert!(wire.unpack(&[0, 0, 0], &mut samples), "it hangs up");
        }
        let (mut wire, mut samples) = (Wire::new(Encapsulation::Sln, 0), Vec::new());
        for byte in [1, 0, 2, 0] {
            wire.unpack(&[byte], &mut samples);
        }
        assert_eq!(samples, [1, 2]);
    }

    #[test]
    fn hostile_bytes_are_silence() {
        let mut rng = Rng::from_number(2);
        for encapsulation in ALL {
            let (mut wire, mut samples) = (Wire::new(encapsulation, 0), Vec::new());
            for _ in 0..2000 {
                let message: Vec<u8> = (0..rng.below(400)).map(|_| rng.next_u32() as u8 | 1).collect();
                wire.unpack(&message, &mut samples);
                samples.clear();
                assert!(wire.carry.len() < 70_000);
            }
        }
    }
}
