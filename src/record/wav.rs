//! A WAV file of 16-bit PCM, mono, that is right at every moment: its header is mended each time it
//! grows, so that whoever is killed leaves a file that plays.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// Bytes before the sound: RIFF, `fmt ` and the head of `data`.
const HEADER: u64 = 44;
/// Bytes of a sample.
const SAMPLE: u64 = 2;
/// The most sound a header can tell of: its sizes have 32 bits.
const DATA_MAX: u64 = u32::MAX as u64 - HEADER;
/// Silence longer than this is a hole in the file rather than zeros.
const HOLE_FROM: u64 = 1 << 16;

/// A growing WAV file.
#[derive(Debug)]
pub struct Wav {
    file: File,
    rate_hz: u32,
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
        let wav = Self { file, rate_hz, data: 0, pending: Vec::new() };
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
        self.file.set_len(HEADER + self.data)?;
        self.write_header()
    }

    /// Bytes of the file.
    pub fn bytes(&self) -> u64 {
        HEADER + self.data + self.pending.len() as u64
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
        self.file.write_all_at(&self.pending, HEADER + self.data)?;
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
        if data > DATA_MAX {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "a WAV file holds no more than 4 GB"));
        }
        self.data = data;
        Ok(())
    }

    fn write_header(&self) -> io::Result<()> {
        self.file.write_all_at(&header(self.rate_hz, self.data), 0)
    }
}

fn header(rate_hz: u32, data: u64) -> [u8; HEADER as usize] {
    let data = u32::try_from(data).unwrap_or(u32::MAX);
    let mut header = [0; HEADER as usize];
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        header[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    put(b"RIFF");
    put(&data.saturating_add(HEADER as u32 - 8).to_le_bytes());
    put(b"WAVEfmt ");
    put(&16u32.to_le_bytes());
    // PCM, mono.
    put(&1u16.to_le_bytes());
    put(&1u16.to_le_bytes());
    put(&rate_hz.to_le_bytes());
    put(&(rate_hz * SAMPLE as u32).to_le_bytes());
    put(&(SAMPLE as u16).to_le_bytes());
    put(&(8 * SAMPLE as u16).to_le_bytes());
    put(b"data");
    put(&data.to_le_bytes());
    header
}

/// Mends a file whose writer was killed: its header tells of all that is there. Returns the length in
/// milliseconds.
///
/// # Errors
/// What the system says.
pub fn mend(file: &File) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let mut found = [0; HEADER as usize];
    if length < HEADER {
        file.set_len(0)?;
        file.write_all_at(&header(8000, 0), 0)?;
        return Ok(0);
    }
    file.read_exact_at(&mut found, 0)?;
    let rate = found[24..28].first_chunk().map_or(0, |rate| u32::from_le_bytes(*rate));
    if !found.starts_with(b"RIFF") || rate == 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "no WAV file of ours"));
    }
    let data = (length - HEADER).min(DATA_MAX) / SAMPLE * SAMPLE;
    file.set_len(HEADER + data)?;
    file.write_all_at(&header(rate, data), 0)?;
    file.sync_all()?;
    Ok(data * 1000 / (u64::from(rate) * SAMPLE))
}
