//! Our RTP header against the `rtp` crate, on valid packets only: it panics on short ones.

use confab::rng::Rng;
use confab::rtp::packet::{HEADER_LEN, RtpHeader, RtpPacket, write_header};
use rtp::packet::Packet;
use webrtc_util::marshal::{Marshal as _, Unmarshal as _};

fn random_header(rng: &mut Rng) -> RtpHeader {
    RtpHeader {
        payload_type: (rng.next_u32() & 0x7f) as u8,
        marker: rng.below(2) == 1,
        sequence: rng.next_u32() as u16,
        timestamp: rng.next_u32(),
        ssrc: rng.next_u32(),
    }
}

#[test]
fn the_peer_reads_what_we_write() {
    let mut rng = Rng::from_number(1);
    for _ in 0..2000 {
        let header = random_header(&mut rng);
        let mut bytes = [0; HEADER_LEN + 20];
        rng.fill(&mut bytes);
        write_header(&header, bytes.first_chunk_mut().expect("longer than a header"));
        let read = Packet::unmarshal(&mut bytes.as_slice()).expect("a valid packet");
        assert_eq!(read.header.payload_type, header.payload_type);
        assert_eq!(read.header.marker, header.marker);
        assert_eq!(read.header.sequence_number, header.sequence);
        assert_eq!(read.header.timestamp, header.timestamp);
        assert_eq!(read.header.ssrc, header.ssrc);
        assert_eq!(read.payload.as_ref(), &bytes[HEADER_LEN..]);
    }
}

#[test]
fn we_read_what_the_peer_writes() {
    let mut rng = Rng::from_number(2);
    for _ in 0..2000 {
        let header = random_header(&mut rng);
        let mut payload = vec![0; 1 + rng.below(160) as usize];
        rng.fill(&mut payload);
        let csrcs = (0..rng.below(16)).map(|_| rng.next_u32()).collect();
        let mut packet = Packet {
            header: rtp::header::Header {
                version: 2,
                marker: header.marker,
                payload_type: header.payload_type,
                sequence_number: header.sequence,
                timestamp: header.timestamp,
                ssrc: header.ssrc,
                csrc: csrcs,
                padding: rng.below(2) == 1,
                ..Default::default()
            },
            payload: payload.clone().into(),
        };
        if rng.below(2) == 1 {
            let id = 1 + rng.below(14) as u8;
            let value = vec![7; 1 + rng.below(16) as usize];
            packet.header.set_extension(id, value.into()).expect("a one-byte extension");
        }
        let bytes = packet.marshal().expect("a valid packet");
        let read = RtpPacket::parse(&bytes).expect("a valid packet");
        assert_eq!(read.header, header);
        assert_eq!(read.payload, payload);
    }
}
