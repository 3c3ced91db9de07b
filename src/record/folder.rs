//! Where recordings lie: `recordings/` in the data folder, every file of a recording under its id.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::{ogg, wav};
use crate::bridge::recording::Written;
use crate::bridge::resource::RecordingFormat;
use crate::id::{ConferencecallId, RecordingId};

/// The folder's name within the data folder.
pub const FOLDER: &str = "recordings";

/// A file of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What listeners heard.
    Mix(RecordingFormat),
    /// What one caller said.
    Track(ConferencecallId),
    /// Who came, went and spoke when, a JSON object a line.
    Marks,
}

impl Part {
    /// The name of such a file of a recording.
    pub fn name(self, recording: RecordingId) -> String {
        format!("{recording}.{}", self.suffix())
    }

    fn suffix(self) -> String {
        match self {
            Part::Mix(RecordingFormat::Wav) => "wav".to_owned(),
            Part::Mix(RecordingFormat::Ogg) => "ogg".to_owned(),
            Part::Track(call) => format!("{call}.wav"),
            Part::Marks => "json".to_owned(),
        }
    }
}

/// The media type of a file of a recording, by its name.
pub fn media_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("ogg") => "audio/ogg",
        Some("wav") => "audio/wav",
        _ => "application/x-ndjson",
    }
}

/// The folder of all recordings.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// The folder within this data folder, made if it is not there; its owner alone may look.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(data: &Path) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        let path = data.join(FOLDER);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        Ok(Self { path })
    }

    /// Where a file of a recording is.
    pub fn path(&self, recording: RecordingId, part: Part) -> PathBuf {
        self.file(&part.name(recording))
    }

    /// Where a file of this name is.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Every file of these recordings, with its name and size in bytes.
    ///
    /// # Errors
    /// What the system says.
    pub fn sizes(&self, recordings: &[RecordingId]) -> io::Result<Vec<(RecordingId, String, u64)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let of = name.split('.').next().and_then(|id| id.parse().ok());
            if let Some(recording) = of.filter(|id| recordings.contains(id)) {
                files.push((recording, name, entry.metadata()?.len()));
            }
        }
        files.sort();
        Ok(files)
    }

    /// Makes a file of a recording.
    ///
    /// # Errors
    /// What the system says.
    pub fn create(&self, recording: RecordingId, part: Part) -> io::Result<File> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let mut open = File::options();
        open.create(true).truncate(true).read(true).write(true).mode(0o600);
        open.open(self.path(recording, part))
    }

    /// Every file of a recording.
    ///
    /// # Errors
    /// What the system says.
    pub fn files(&self, recording: RecordingId) -> io::Result<Vec<PathBuf>> {
        let prefix = format!("{recording}.");
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                files.push(entry.path());
            }
        }
        files.sort();
        Ok(files)
    }

    /// Removes every file of a recording.
    ///
    /// # Errors
    /// What the system says; a file that is gone already is no error.
    pub fn remove(&self, recording: RecordingId) -> io::Result<()> {
        for file in self.files(recording)? {
            match fs::remove_file(file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Mends the files of a recording whose writer was killed, and measures them.
    ///
    /// # Errors
    /// What the system says, and files that are none of ours.
    pub fn mend(&self, recording: RecordingId, format: RecordingFormat) -> io::Result<Written> {
        let mix = self.path(recording, Part::Mix(format));
        let mut written = Written::default();
        for path in self.files(recording)? {
            let file = File::options().read(true).write(true).open(&path)?;
            let length_ms = match path.extension().and_then(|extension| extension.to_str()) {
                Some("wav") => wav::mend(&file)?,
                Some("ogg") => ogg::mend(&file)?,
                _ => mend_lines(&file, &path)?,
            };
            if path == mix {
                written.duration_ms = length_ms;
            }
            written.bytes += file.metadata()?.len();
        }
        Ok(written)
    }
}

/// Cuts off a line that was not written to its end.
fn mend_lines(file: &File, path: &Path) -> io::Result<u64> {
    let text = fs::read(path)?;
    let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    file.set_len(whole as u64)?;
    Ok(0)
}
