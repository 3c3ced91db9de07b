//! Ogg pages (RFC 3533) and the Opus stream in them (RFC 7845): a page a second, so that whoever is
//! killed leaves a file that plays.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;

use opus_pure::{Application, MAX_PACKET_BYTES, OpusEncoder};

/// Packets in a page: a second. Each is shorter than 255 bytes times the laces that are left.
const PAGE_PACKETS: usize = 50;
/// Bytes of a page's header before its lacing values.
const PAGE_HEADER: usize = 27;
/// The longest page (RFC 3533 §6).
const PAGE_MAX: usize = PAGE_HEADER + 255 + 255 * 255;
/// Granule positions count samples at 48 kHz (RFC 7845 §4), so many a millisecond.
const GRANULES_PER_MS: u64 = 48;
/// One packet of 20 ms.
const PACKET_GRANULES: u64 = 20 * GRANULES_PER_MS;
/// Bits a second: speech at 8 kHz is transparent well below, and music on hold is fair.
const BITRATE: i32 = 24_000;
/// Of 10: what a busy server can afford.
const COMPLEXITY: i32 = 5;
/// What a page is, in its header.
const FIRST: u8 = 2;
const LAST: u8 = 4;

/// A growing Ogg/Opus file, mono.
#[derive(Debug)]
pub struct OpusFile {
    file: File,
    encoder: Box<OpusEncoder>,
    frame: usize,
    serial: u32,
    sequence: u32,
    pre_skip: u64,
    /// Packets encoded.
    packets: u64,
    /// Ticks of 20 ms that were to be encoded.
    frames: u64,
    laces: Vec<u8>,
    body: Vec<u8>,
    in_page: usize,
    bytes: u64,
}

impl OpusFile {
    /// Begins a file with its two headers.
    ///
    /// # Errors
    /// What the system says; a rate that Opus does not have.
    pub fn begin(file: File, rate_hz: u32, serial: u32) -> io::Result<Self> {
        let rate = i32::try_from(rate_hz).unwrap_or(i32::MAX);
        let mut encoder = OpusEncoder::new(rate, 1, Application::Audio).map_err(io::Error::other)?;
        encoder.bitrate_bps = BITRATE;
        encoder.complexity = COMPLEXITY;
        let pre_skip = encoder.lookahead() as u64 * u64::from(48_000 / rate_hz.max(1));
        let mut opus = Self {
            file,
            encoder: Box::new(encoder),
            frame: rate_hz as usize / 50,
            serial,
            sequence: 0,
            pre_skip,
            packets: 0,
            frames: 0,
            laces: Vec::with_capacity(255),
            body: Vec::new(),
            in_page: 0,
            bytes: 0,
        };
        opus.write_heads(rate_hz)?;
        Ok(opus)
    }

    fn write_heads(&mut self, rate_hz: u32) -> io::Result<()> {
        let mut head = b"OpusHead\x01\x01".to_vec();
        head.extend((self.pre_skip as u16).to_le_bytes());
        head.extend(rate_hz.to_le_bytes());
        head.extend([0; 3]);
        self.add_packet(&head);
        self.write_page(FIRST, 0)?;
        let vendor = b"confab";
        let mut tags = b"OpusTags".to_vec();
        tags.extend((vendor.len() as u32).to_le_bytes());
        tags.extend(vendor);
        tags.extend(0u32.to_le_bytes());
        self.add_packet(&tags);
        self.write_page(0, 0)
    }

    /// Adds 20 ms.
    ///
    /// # Errors
    /// What the system says.
    pub fn push(&mut self, frame: &[i16]) -> io::Result<()> {
        self.frames += 1;
        self.encode(frame)
    }

    /// Adds so many times 20 ms of silence.
    ///
    /// # Errors
    /// What the system says.
    pub fn silence(&mut self, frames: u64) -> io::Result<()> {
        let silence = vec![0; self.frame];
        for _ in 0..frames {
            self.push(&silence)?;
        }
        Ok(())
    }

    /// Bytes of the file.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn encode(&mut self, frame: &[i16]) -> io::Result<()> {
        let mut packet = [0; MAX_PACKET_BYTES];
        let length = self.encoder.encode_s16(frame, self.frame, &mut packet).map_err(io::Error::other)?;
        let packet = &packet[..length];
        if self.in_page == PAGE_PACKETS || self.laces.len() + packet.len() / 255 + 1 > 255 {
            self.flush()?;
        }
        self.packets += 1;
        self.add_packet(packet);
        Ok(())
    }

    /// Puts all there is into the file, as a page.
    ///
    /// # Errors
    /// What the system says.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.in_page == 0 {
            return Ok(());
        }
        self.write_page(0, self.packets * PACKET_GRANULES)
    }

    /// Ends the stream and puts it on the disk. Its length is told exactly: a decoder gives what it
    /// holds back of the last sound, and drops what is over (RFC 7845 §4.4).
    ///
    /// # Errors
    /// What the system says.
    pub fn finish(&mut self) -> io::Result<()> {
        let end = self.pre_skip + self.frames * PACKET_GRANULES;
        let silence = vec![0; self.frame];
        while self.packets * PACKET_GRANULES < end {
            self.encode(&silence)?;
        }
        self.write_page(LAST, end)?;
        self.file.sync_all()
    }

    /// A packet is laced into pieces of 255 bytes, of which the last is shorter (RFC 3533 §6).
    fn add_packet(&mut self, packet: &[u8]) {
        self.laces.extend(std::iter::repeat_n(255, packet.len() / 255));
        self.laces.push((packet.len() % 255) as u8);
        self.body.extend(packet);
        self.in_page += 1;
    }

    fn write_page(&mut self, kind: u8, granule: u64) -> io::Result<()> {
        let mut page = Vec::with_capacity(PAGE_HEADER + self.laces.len() + self.body.len());
        page.extend(b"OggS\0");
        page.push(kind);
        page.extend(granule.to_le_bytes());
        page.extend(self.serial.to_le_bytes());
        page.extend(self.sequence.to_le_bytes());
        page.extend([0; 4]);
        page.push(self.laces.len() as u8);
        page.append(&mut self.laces);
        page.append(&mut self.body);
        seal(&mut page);
        self.in_page = 0;
        self.sequence += 1;
        self.file.write_all(&page)?;
        self.bytes += page.len() as u64;
        Ok(())
    }
}

/// Mends a file whose writer was killed: what follows the last whole page goes, and that page becomes
/// the stream's last. Returns the length in milliseconds.
///
/// # Errors
/// What the system says; a file without a whole page is [`io::ErrorKind::InvalidData`].
pub fn mend(file: &File) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let mut head = [0; PAGE_HEADER + 20];
    file.read_exact_at(&mut head, 0)?;
    // The first page has one lacing value, then `OpusHead`, version, channels, pre-skip.
    let pre_skip = u64::from(u16::from_le_bytes([head[PAGE_HEADER + 11], head[PAGE_HEADER + 12]]));
    let from = length.saturating_sub(2 * PAGE_MAX as u64);
    let mut tail = vec![0; (length - from) as usize];
    file.read_exact_at(&mut tail, from)?;
    let places = (0..tail.len()).rev().filter(|&at| tail[at..].starts_with(b"OggS"));
    let last = places.filter_map(|at| whole_page(&tail[at..]).map(|length| (at, length))).next();
    let Some((at, page_length)) = last else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "no whole Ogg page"));
    };
    let page = &mut tail[at..at + page_length];
    page[5] |= LAST;
    seal(page);
    file.write_all_at(page, from + at as u64)?;
    file.set_len(from + (at + page_length) as u64)?;
    file.sync_all()?;
    let granule = page[6..14].first_chunk().map_or(0, |granule| u64::from_le_bytes(*granule));
    Ok(granule.saturating_sub(pre_skip) / GRANULES_PER_MS)
}

/// The length of the page that `bytes` begin with, if it is whole and undamaged.
fn whole_page(bytes: &[u8]) -> Option<usize> {
    let laces = usize::from(*bytes.get(PAGE_HEADER - 1)?);
    let body: usize =
        bytes.get(PAGE_HEADER..PAGE_HEADER + laces)?.iter().map(|&lace| usize::from(lace)).sum();
    let mut page = bytes.get(..PAGE_HEADER + laces + body)?.to_vec();
    let told = page[22..26].to_vec();
    seal(&mut page);
    (page[22..26] == told).then_some(page.len())
}

/// Writes a page's checksum: CRC-32 with polynomial 0x04c11db7, not reflected, over the page with the
/// checksum zero (RFC 3533 §6).
fn seal(page: &mut [u8]) {
    page[22..26].fill(0);
    let crc =
        page.iter().fold(0u32, |crc, &byte| crc << 8 ^ CRC_TABLE[usize::from((crc >> 24) as u8 ^ byte)]);
    page[22..26].copy_from_slice(&crc.to_le_bytes());
}

const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u32) << 24;
        let mut bit = 0;
        while bit < 8 {
            crc = crc << 1 ^ if crc & 1 << 31 == 0 { 0 } else { 0x04c1_1db7 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};
