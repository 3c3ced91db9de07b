//! A WAV file of 16-bit PCM, mono, that is right at every moment: its header is mended each time it
//! grows, so that whoever is killed leaves a file that plays.
//!
//! The sizes in a WAV header have 32 bits. A file whose rate lets it grow beyond them within the longest
//! recording has room in its header for 64 bits, and becomes RF64 when it does (EBU Tech 3306).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use crate::bridge::command::RECORDING_MAX_S;

/// Bytes before the sound: RIFF, `fmt ` and the head of `data`.
const HEADER: u64 = 44;
/// Bytes of the chunk that is `JUNK` until sizes need 64 bits, and then `ds64`.
const ROOM: u64 = 36;
/// Bytes of a sample.
const SAMPLE: u64 = 2;
/// The most sound that sizes of 32 bits can tell of.
const DATA_MAX: u64 = u32::MAX as u64 - HEADER - ROOM;
/// Silence longer than this is a hole in the file rather than zeros.
const HOLE_FROM: u64 = 1 << 16;

/// A growing WAV file.
#[derive(Debug)]
pub struct Wav {
    file: File,
    head: Head,
    /// Bytes of sound in the file.
    data: u64,
    /// Sound that is not in the file yet.
    pending: Vec<u8>,
}

impl Wav {
    /// Begins a file.
    ///
    /// # Errors
    /// What the system says.
    pub fn begin(file: File, rate_hz: u32) -> io::Result<Self> {
        let wav = Self { file, head: Head::of(rate_hz), data: 0, pending: Vec::new() };
        wav.write_header()?;
        Ok(wav)
    }

    /// Adds sound.
    pub fn push(&mut self, samples: &[i16]) {
        self.pending.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
    }

    /// Adds so many samples of silence.
    ///
    /// # Errors
    /// What the system says.
    pub fn silence(&mut self, samples: u64) -> io::Result<()> {
        let bytes = samples.saturating_mul(SAMPLE);
        if bytes < HOLE_FROM {
            self.pending.resize(self.pending.len() + bytes as usize, 0);
            return Ok(());
        }
        self.flush()?;
        self.grow(bytes)?;
        self.file.set_len(self.head.length() + self.data)?;
        self.write_header()
    }

    /// Bytes of the file.
    pub fn bytes(&self) -> u64 {
        self.head.length() + self.data + self.pending.len() as u64
    }

    /// Puts all there is into the file.
    ///
    /// # Errors
    /// What the system says; a file that is full is [`io::ErrorKind::FileTooLarge`].
    pub fn flush(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        // Sound first: a header never tells of more than there is.
        self.file.write_all_at(&self.pending, self.head.length() + self.data)?;
        self.grow(self.pending.len() as u64)?;
        self.pending.clear();
        self.write_header()
    }

    /// Puts all there is on the disk.
    ///
    /// # Errors
    /// What the system says.
    pub fn finish(&mut self) -> io::Result<()> {
        self.flush()?;
        self.file.sync_all()
    }

    fn grow(&mut self, bytes: u64) -> io::Result<()> {
        let data = self.data + bytes;
        if data > DATA_MAX && !self.head.is_roomy {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "this WAV file holds no more than 4 GB"));
        }
        self.data = data;
        Ok(())
    }

    fn write_header(&self) -> io::Result<()> {
        self.file.write_all_at(&self.head.bytes(self.data), 0)
    }
}

/// What stands before the sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    rate_hz: u32,
    /// It has room for sizes of 64 bits.
    is_roomy: bool,
}

impl Head {
    /// The head of a new file of this rate.
    fn of(rate_hz: u32) -> Self {
        Self { rate_hz, is_roomy: u64::from(rate_hz) * SAMPLE * RECORDING_MAX_S > DATA_MAX }
    }

    /// The head that a file of ours begins with.
    fn found(bytes: &[u8]) -> Option<Self> {
        let known = bytes.starts_with(b"RIFF") || bytes.starts_with(b"RF64");
        let is_roomy = matches!(bytes.get(12..16)?, b"JUNK" | b"ds64");
        let rate_at = 24 + if is_roomy { ROOM as usize } else { 0 };
        let rate_hz = u32::from_le_bytes(*bytes.get(rate_at..)?.first_chunk()?);
        (known && rate_hz > 0).then_some(Self { rate_hz, is_roomy })
    }

    fn length(self) -> u64 {
        HEADER + if self.is_roomy { ROOM } else { 0 }
    }

    /// The head of a file with so many bytes of sound.
    fn bytes(self, data: u64) -> Vec<u8> {
        let is_long = data > DATA_MAX;
        // All ones say that the size is in `ds64`.
        let size = |bytes: u64| if is_long { u32::MAX } else { bytes as u32 }.to_le_bytes();
        let riff = data + self.length() - 8;
        let mut head = Vec::with_capacity(self.length() as usize);
        head.extend(if is_long { b"RF64" } else { b"RIFF" });
        head.extend(size(riff));
        head.extend(b"WAVE");
        if self.is_roomy {
            head.extend(if is_long { b"ds64" } else { b"JUNK" });
            head.extend((ROOM as u32 - 8).to_le_bytes());
            for count in [riff, data, data / SAMPLE] {
                head.extend(if is_long { count } else { 0 }.to_le_bytes());
            }
            head.extend([0; 4]);
        }
        head.extend(b"fmt ");
        head.extend(16u32.to_le_bytes());
        // PCM, mono.
        head.extend(1u16.to_le_bytes());
        head.extend(1u16.to_le_bytes());
        head.extend(self.rate_hz.to_le_bytes());
        head.extend((self.rate_hz * SAMPLE as u32).to_le_bytes());
        head.extend((SAMPLE as u16).to_le_bytes());
        head.extend((8 * SAMPLE as u16).to_le_bytes());
        head.extend(b"data");
        head.extend(size(data));
        head
    }
}

/// Mends a file whose writer was killed: its header tells of all that is there. Returns the length in
/// milliseconds.
///
/// # Errors
/// What the system says.
pub fn mend(file: &File) -> io::Result<u64> {
    let length = file.metadata()?.len();
    if length < HEADER {
        file.set_len(0)?;
        file.write_all_at(&Head::of(8000).bytes(0), 0)?;
        return Ok(0);
    }
    let mut found = vec![0; length.min(HEADER + ROOM) as usize];
    file.read_exact_at(&mut found, 0)?;
    let head = Head::found(&found)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no WAV file of ours"))?;
    let most = if head.is_roomy { u64::MAX } else { DATA_MAX };
    let data = length.saturating_sub(head.length()).min(most) / SAMPLE * SAMPLE;
    file.set_len(head.length() + data)?;
    file.write_all_at(&head.bytes(data), 0)?;
    file.sync_all()?;
    Ok(data * 1000 / (u64::from(head.rate_hz) * SAMPLE))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that nobody else sees.
    fn file() -> File {
        use std::sync::atomic::{AtomicU64, Ordering};
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("confab-wav-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        let file = File::options().create_new(true).read(true).write(true).open(&path).expect("a new file");
        std::fs::remove_file(path).expect("it is there");
        file
    }

    fn head(file: &File, length: u64) -> Vec<u8> {
        let mut head = vec![0; length as usize];
        file.read_exact_at(&mut head, 0).expect("it is long enough");
        head
    }

    #[test]
    fn a_file_of_a_telephone_room_has_the_plain_header_that_every_program_reads() {
        for rate in [8000, 16_000] {
            let sound = file();
            let mut wav = Wav::begin(sound.try_clone().expect("a second handle"), rate).expect("begun");
            wav.push(&[1, 2, 3]);
            wav.finish().expect("finished");
            let head = head(&sound, HEADER);
            assert_eq!(
                (&head[..4], &head[12..16], &head[36..40]),
                (&b"RIFF"[..], &b"fmt "[..], &b"data"[..])
            );
            assert_eq!(head[40..], 6u32.to_le_bytes());
        }
    }

    #[test]
    fn a_file_beyond_4_gb_becomes_rf64_and_is_mended_as_one() {
        let sound = file();
        let mut wav = Wav::begin(sound.try_clone().expect("a second handle"), 48_000).expect("begun");
        wav.push(&[5; 100]);
        wav.flush().expect("written");
        let short = head(&sound, HEADER + ROOM);
        assert_eq!((&short[..4], &short[12..16], &short[72..76]), (&b"RIFF"[..], &b"JUNK"[..], &b"data"[..]));
        assert_eq!(short[76..], 200u32.to_le_bytes());
        // A hole: the file takes no room on the disk.
        wav.silence(DATA_MAX / SAMPLE).expect("silent");
        wav.push(&[7; 100]);
        wav.finish().expect("finished");
        let data = 400 + DATA_MAX / SAMPLE * SAMPLE;
        let long = head(&sound, HEADER + ROOM);
        assert_eq!((&long[..8], &long[12..16]), (&b"RF64\xff\xff\xff\xff"[..], &b"ds64"[..]));
        assert_eq!(long[20..28], (data + HEADER + ROOM - 8).to_le_bytes());
        assert_eq!(
            (&long[28..36], &long[36..44]),
            (&data.to_le_bytes()[..], &(data / SAMPLE).to_le_bytes()[..])
        );
        assert_eq!(long[76..], [0xff; 4]);
        assert_eq!(wav.bytes(), data + HEADER + ROOM);
        // The writer is killed within a sample, its header not yet mended.
        sound.write_all_at(&short, 0).expect("written");
        sound.set_len(wav.bytes() - 1).expect("cut");
        assert_eq!(mend(&sound).expect("mended"), (data - SAMPLE) * 1000 / 96_000);
        assert_eq!(head(&sound, HEADER + ROOM)[28..36], (data - SAMPLE).to_le_bytes());
    }
}
