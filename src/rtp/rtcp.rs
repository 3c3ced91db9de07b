//! RTCP (RFC 3550 §6): compound packets read through checked views, and the reports we send.

use crate::time::{Duration, Timestamp};

/// The most report blocks in one packet: its counter has five bits.
pub const MAX_BLOCKS: usize = 31;
/// Enough bytes for every report this module writes with one block.
pub const REPORT_BYTES_MAX: usize = 8 + 20 + BLOCK_LEN + 4 + 8 + 256 + 4 + 8;
/// Seconds from NTP's epoch, 1900, to 1970.
const NTP_EPOCH_S: i64 = 2_208_988_800;
const VERSION: u8 = 2;
const HEADER_LEN: usize = 4;
const BLOCK_LEN: usize = 24;
const CNAME: u8 = 1;
const CNAME_BYTES_MAX: usize = 255;
const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const BYE: u8 = 203;

/// Wall-clock time as NTP counts it: seconds since 1900 and their 2⁻³² parts (RFC 3550 §4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct NtpTime(pub u64);

impl NtpTime {
    /// The middle 32 bits: 2⁻¹⁶ seconds, as report blocks carry it.
    pub const fn middle(self) -> u32 {
        (self.0 >> 16) as u32
    }
}

impl From<Timestamp> for NtpTime {
    fn from(time: Timestamp) -> NtpTime {
        let seconds = time.as_secs().wrapping_add(NTP_EPOCH_S) as u64;
        let micros = time.as_micros().rem_euclid(1_000_000) as u64;
        NtpTime((seconds << 32) | ((micros << 32) / 1_000_000))
    }
}

/// The sender's part of a sender report (RFC 3550 §6.4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SenderInfo {
    /// When the report was sent.
    pub ntp: NtpTime,
    /// The same moment in the stream's own timestamps.
    pub rtp_timestamp: u32,
    /// RTP packets sent.
    pub packets: u32,
    /// Payload bytes sent.
    pub octets: u32,
}

/// What a receiver tells of one source (RFC 3550 §6.4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReportBlock {
    /// The source it is about.
    pub ssrc: u32,
    /// Loss since the report before, in 1/256.
    pub fraction_lost: u8,
    /// Packets lost since the stream began: 24 bits, negative when duplicates outnumber losses.
    pub cumulative_lost: i32,
    /// Extended highest sequence number received.
    pub highest_sequence: u32,
    /// Interarrival jitter, in timestamp units.
    pub jitter: u32,
    /// [`NtpTime::middle`] of the last sender report received; 0 for none.
    pub last_sender_report: u32,
    /// Time since then, in 2⁻¹⁶ seconds.
    pub delay_since_last: u32,
}

/// One packet of a compound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RtcpPacket<'a> {
    /// SR.
    SenderReport {
        /// Who sent it.
        ssrc: u32,
        /// Its sending.
        info: SenderInfo,
        /// Its receiving.
        blocks: ReportBlocks<'a>,
    },
    /// RR.
    ReceiverReport {
        /// Who sent it.
        ssrc: u32,
        /// Its receiving.
        blocks: ReportBlocks<'a>,
    },
    /// SDES: its first chunk.
    SourceDescription {
        /// Who it describes.
        ssrc: u32,
        /// Its canonical name, if it has one.
        cname: Option<&'a [u8]>,
    },
    /// BYE: streams that end.
    Bye {
        /// Their sources.
        sources: Sources<'a>,
    },
    /// APP, feedback, extended reports and what else there is.
    Other {
        /// The packet type.
        packet_type: u8,
    },
}

/// Why bytes are no compound packet (RFC 3550 A.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RtcpError {
    /// A packet's length does not fit the datagram, or its contents do not fit its length.
    #[error("a packet ends early")]
    Short,
    /// Not version 2.
    #[error("the version is not 2")]
    Version,
    /// The first packet is no SR or RR.
    #[error("the first packet is no report")]
    FirstType,
    /// Padding before the last packet, or more of it than there is packet.
    #[error("the padding does not fit")]
    Padding,
}

/// The report blocks of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportBlocks<'a>(&'a [u8]);

/// The sources of a BYE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sources<'a>(&'a [u8]);

/// The packets of a compound, checked.
#[derive(Clone, Copy, Debug)]
pub struct Compound<'a>(&'a [u8]);

/// Checks a datagram as a compound packet (RFC 3550 A.2) and iterates over its packets.
pub fn parse(bytes: &[u8]) -> Result<Compound<'_>, RtcpError> {
    let mut rest = bytes;
    let mut first = true;
    while first || !rest.is_empty() {
        let (packet, after) = read_packet(rest)?;
        let is_report = matches!(packet, RtcpPacket::SenderReport { .. } | RtcpPacket::ReceiverReport { .. });
        if first && !is_report {
            return Err(RtcpError::FirstType);
        }
        first = false;
        rest = after;
    }
    Ok(Compound(bytes))
}

impl<'a> Iterator for Compound<'a> {
    type Item = RtcpPacket<'a>;

    fn next(&mut self) -> Option<RtcpPacket<'a>> {
        let (packet, rest) = read_packet(self.0).ok()?;
        self.0 = rest;
        Some(packet)
    }
}

impl Iterator for ReportBlocks<'_> {
    type Item = ReportBlock;

    fn next(&mut self) -> Option<ReportBlock> {
        let (bytes, rest) = self.0.split_first_chunk::<BLOCK_LEN>()?;
        self.0 = rest;
        let (words, _) = bytes.as_chunks::<4>();
        let word = |n: usize| words.get(n).map_or(0, |word| u32::from_be_bytes(*word));
        Some(ReportBlock {
            ssrc: word(0),
            fraction_lost: (word(1) >> 24) as u8,
            // The shift up and down again extends the sign of the 24 bits.
            cumulative_lost: (word(1) << 8) as i32 >> 8,
            highest_sequence: word(2),
            jitter: word(3),
            last_sender_report: word(4),
            delay_since_last: word(5),
        })
    }
}

impl Iterator for Sources<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let (source, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*source))
    }
}

/// The first packet of `bytes`, and what follows it.
fn read_packet(bytes: &[u8]) -> Result<(RtcpPacket<'_>, &[u8]), RtcpError> {
    let ([first, packet_type, high, low], after) =
        bytes.split_first_chunk::<HEADER_LEN>().ok_or(RtcpError::Short)?;
    if first >> 6 != VERSION {
        return Err(RtcpError::Version);
    }
    // The length counts 32-bit words after the header's one (RFC 3550 §6.4.1).
    let length = usize::from(u16::from_be_bytes([*high, *low])) * 4;
    let (mut body, rest) = after.split_at_checked(length).ok_or(RtcpError::Short)?;
    if first & 0x20 != 0 {
        let count = usize::from(*body.last().ok_or(RtcpError::Padding)?);
        if !rest.is_empty() || count == 0 || count % 4 != 0 {
            return Err(RtcpError::Padding);
        }
        let kept = body.len().checked_sub(count).ok_or(RtcpError::Padding)?;
        body = body.get(..kept).ok_or(RtcpError::Padding)?;
    }
    let count = usize::from(first & 0x1f);
    let packet = match *packet_type {
        SENDER_REPORT => read_sender_report(body, count),
        RECEIVER_REPORT => read_receiver_report(body, count),
        SOURCE_DESCRIPTION => read_description(body, count),
        BYE => body.get(..count * 4).map(|sources| RtcpPacket::Bye { sources: Sources(sources) }),
        packet_type => Some(RtcpPacket::Other { packet_type }),
    };
    Ok((packet.ok_or(RtcpError::Short)?, rest))
}

fn read_sender_report(body: &[u8], count: usize) -> Option<RtcpPacket<'_>> {
    let (ssrc, body) = body.split_first_chunk()?;
    let (ntp, body) = body.split_first_chunk()?;
    let (rtp_timestamp, body) = body.split_first_chunk()?;
    let (packets, body) = body.split_first_chunk()?;
    let (octets, body) = body.split_first_chunk()?;
    let info = SenderInfo {
        ntp: NtpTime(u64::from_be_bytes(*ntp)),
        rtp_timestamp: u32::from_be_bytes(*rtp_timestamp),
        packets: u32::from_be_bytes(*packets),
        octets: u32::from_be_bytes(*octets),
    };
    let blocks = ReportBlocks(body.get(..count * BLOCK_LEN)?);
    Some(RtcpPacket::SenderReport { ssrc: u32::from_be_bytes(*ssrc), info, blocks })
}

fn read_receiver_report(body: &[u8], count: usize) -> Option<RtcpPacket<'_>> {
    let (ssrc, body) = body.split_first_chunk()?;
    let blocks = ReportBlocks(body.get(..count * BLOCK_LEN)?);
    Some(RtcpPacket::ReceiverReport { ssrc: u32::from_be_bytes(*ssrc), blocks })
}

/// The first chunk of an SDES packet (RFC 3550 §6.5): items until a zero byte.
fn read_description(body: &[u8], count: usize) -> Option<RtcpPacket<'_>> {
    if count == 0 {
        return Some(RtcpPacket::Other { packet_type: SOURCE_DESCRIPTION });
    }
    let (ssrc, mut items) = body.split_first_chunk()?;
    let mut cname = None;
    while let Some((kind, rest)) = items.split_first().filter(|(kind, _)| **kind != 0) {
        let (length, rest) = rest.split_first()?;
        let (text, rest) = rest.split_at_checked(usize::from(*length))?;
        if *kind == CNAME && cname.is_none() {
            cname = Some(text);
        }
        items = rest;
    }
    Some(RtcpPacket::SourceDescription { ssrc: u32::from_be_bytes(*ssrc), cname })
}

/// A compound packet of ours: a report, our name, and at the end of the stream a BYE.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// Our source.
    pub ssrc: u32,
    /// What we sent; `None` when we sent nothing since the report before the last, which makes it
    /// a receiver report (RFC 3550 §6.4).
    pub sender: Option<SenderInfo>,
    /// What we received; the first [`MAX_BLOCKS`] are written.
    pub blocks: &'a [ReportBlock],
    /// Our canonical name (RFC 7022); its first 255 bytes are written.
    pub cname: &'a str,
    /// Whether our stream ends.
    pub bye: bool,
}

/// The buffer is too small for the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the buffer is too small for the report")]
pub struct BufferFull;

impl Report<'_> {
    /// Writes the report to the front of `out` and gives its length. Never allocates.
    pub fn write(&self, out: &mut [u8]) -> Result<usize, BufferFull> {
        let mut writer = Writer { out, len: 0 };
        self.write_report(&mut writer)?;
        self.write_name(&mut writer)?;
        if self.bye {
            writer.put_header(1, BYE, 1)?;
            writer.put(&self.ssrc.to_be_bytes())?;
        }
        Ok(writer.len)
    }

    fn write_report(&self, writer: &mut Writer<'_>) -> Result<(), BufferFull> {
        let blocks = self.blocks.get(..MAX_BLOCKS).unwrap_or(self.blocks);
        let block_words = blocks.len() * BLOCK_LEN / 4;
        match &self.sender {
            Some(info) => {
                writer.put_header(blocks.len(), SENDER_REPORT, 6 + block_words)?;
                writer.put(&self.ssrc.to_be_bytes())?;
                writer.put(&info.ntp.0.to_be_bytes())?;
                for word in [info.rtp_timestamp, info.packets, info.octets] {
                    writer.put(&word.to_be_bytes())?;
                }
            }
            None => {
                writer.put_header(blocks.len(), RECEIVER_REPORT, 1 + block_words)?;
                writer.put(&self.ssrc.to_be_bytes())?;
            }
        }
        blocks.iter().try_for_each(|block| write_block(block, writer))
    }

    /// SDES with CNAME, which every compound must have (RFC 3550 §6.1).
    fn write_name(&self, writer: &mut Writer<'_>) -> Result<(), BufferFull> {
        let name = self.cname.as_bytes();
        let name = name.get(..CNAME_BYTES_MAX).unwrap_or(name);
        // Kind, length and text, then one to four zero bytes up to a word's end (RFC 3550 §6.5).
        let words = (2 + name.len()) / 4 + 1;
        let zeros = words * 4 - (2 + name.len());
        writer.put_header(1, SOURCE_DESCRIPTION, 1 + words)?;
        writer.put(&self.ssrc.to_be_bytes())?;
        writer.put(&[CNAME, name.len() as u8])?;
        writer.put(name)?;
        writer.put([0; 4].get(..zeros).unwrap_or(&[0; 4]))
    }
}

fn write_block(block: &ReportBlock, writer: &mut Writer<'_>) -> Result<(), BufferFull> {
    let lost = block.cumulative_lost.clamp(-0x80_0000, 0x7f_ffff) as u32 & 0xff_ffff;
    for word in [
        block.ssrc,
        u32::from(block.fraction_lost) << 24 | lost,
        block.highest_sequence,
        block.jitter,
        block.last_sender_report,
        block.delay_since_last,
    ] {
        writer.put(&word.to_be_bytes())?;
    }
    Ok(())
}

struct Writer<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), BufferFull> {
        let end = self.len + bytes.len();
        self.out.get_mut(self.len..end).ok_or(BufferFull)?.copy_from_slice(bytes);
        self.len = end;
        Ok(())
    }

    fn put_header(&mut self, count: usize, kind: u8, words: usize) -> Result<(), BufferFull> {
        let [high, low] = (words as u16).to_be_bytes();
        self.put(&[VERSION << 6 | (count as u8 & 0x1f), kind, high, low])
    }
}

/// The round trip a peer's block about our stream tells, when the block comes at `now` (RFC 3550
/// §6.4.1): what is left of the time since our report after the peer's own delay. `None` when the
/// peer has had no report of ours, or its times contradict ours.
pub fn round_trip(now: NtpTime, block: &ReportBlock) -> Option<Duration> {
    if block.last_sender_report == 0 {
        return None;
    }
    let since_ours = now.middle().wrapping_sub(block.last_sender_report);
    let units = since_ours.checked_sub(block.delay_since_last)?;
    // More than half the clock's 18 hours: the report is from the future.
    (since_ours <= u32::MAX / 2).then(|| Duration::from_nanos((u64::from(units) * 1_000_000_000) >> 16))
}

/// A time in 2⁻¹⁶ seconds, as `delay_since_last` counts it; at most 18 hours.
pub fn short_delay(delay: Duration) -> u32 {
    u32::try_from((delay.as_nanos() << 16) / 1_000_000_000).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
