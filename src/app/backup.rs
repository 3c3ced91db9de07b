//! `confab backup` and `confab restore`: the data folder, copied while a server runs and put back.
//!
//! The database comes first, as it is at one moment, and the files of recordings after it: what had ended
//! at that moment is whole. What was still being recorded is mended when a server starts on the copy, as
//! after a kill. What was moved to storage in between is found there by the server.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::failure::Failure;
use super::ready::print;
use crate::net::clock::Clock;
use crate::record::{self, Folder};
use crate::store::{self, DATABASE_FILE};

/// The file that lists the others, with their hashes.
const MANIFEST: &str = "backup.json";
/// Bytes that are copied at a time.
const CHUNK: usize = 1 << 20;

/// The options of `confab backup`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
The server may go on running: calls, writes and recordings are not held up. The backup is a folder with
the database, the files of recordings that are in the data folder, and backup.json with their hashes.
Recordings that were moved to storage (record.storage) stay there and are not copied. The backup holds
credentials: direct hashes, and what verifies the access keys.

Examples:
  confab backup --data /var/lib/confab --to /backup/confab-$(date +%F)
  confab restore --from /backup/confab-2026-11-25 --data /var/lib/confab")]
pub(super) struct BackupOptions {
    /// The data folder of the server
    #[arg(long, value_name = "DIR", env = "CONFAB_DATA", default_value = ".data")]
    data: PathBuf,
    /// The folder to make; must not be there
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

/// The options of `confab restore`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Checks every file of the backup first, and does not touch a data folder that has anything in it. Then
start the server on that folder.

Examples:
  confab restore --from /backup/confab-2026-11-25 --data /var/lib/confab")]
pub(super) struct RestoreOptions {
    /// The folder that `confab backup` made
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// The data folder to make; must not be there, or be empty
    #[arg(long, value_name = "DIR", env = "CONFAB_DATA", default_value = ".data")]
    data: PathBuf,
}

/// What a backup holds.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    /// The version that made it.
    confab: String,
    /// When it was made.
    tm_create: String,
    files: Vec<Entry>,
}

/// A file of it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    /// Its path within the folder.
    name: String,
    size_bytes: u64,
    sha256: String,
}

/// Runs `confab backup`.
pub(super) fn backup(options: &BackupOptions) -> Result<ExitCode, Failure> {
    let BackupOptions { data, to } = options;
    if !data.join(DATABASE_FILE).exists() {
        let next = vec![
            "name the server's data folder with --data or CONFAB_DATA".to_owned(),
            "if the server uses PostgreSQL (--database), back that up by pg_dump, and the folder as it is"
                .to_owned(),
        ];
        return Err(Failure::advice(format!("{} holds no database of confab", data.display()), next));
    }
    if to.exists() {
        let next = vec!["name a new folder with --to".to_owned()];
        return Err(Failure::advice(format!("{} is there already", to.display()), next));
    }
    // Under another name until it is whole.
    let mut part = to.clone().into_os_string();
    part.push(".part");
    let part = PathBuf::from(part);
    let made = make(data, &part).and_then(|bytes| {
        fs::rename(&part, to).map_err(|error| cannot("named", to, &error))?;
        Ok(bytes)
    });
    if made.is_err() {
        // What is left of a backup that failed helps nobody; that it stays is no second fault.
        let _ = fs::remove_dir_all(&part);
    }
    let (files, bytes) = made?;
    print(&format!("{}: {files} files, {bytes} bytes\n", to.display()));
    Ok(ExitCode::SUCCESS)
}

/// Makes a backup in a new folder. Returns how many files and bytes.
fn make(data: &Path, to: &Path) -> Result<(usize, u64), Failure> {
    make_folder(to).map_err(|error| cannot("made", to, &error))?;
    let mut files = vec![copy_database(data, to)?];
    let recordings = data.join(record::FOLDER);
    let to_recordings = Folder::open(to).map_err(|error| cannot("made", to, &error))?;
    for name in names(&recordings).map_err(|error| cannot("read", &recordings, &error))? {
        let copied = copy(&recordings.join(&name), &to_recordings.file(&name));
        match copied {
            Ok((size_bytes, sha256)) => {
                files.push(Entry { name: format!("{}/{name}", record::FOLDER), size_bytes, sha256 });
            }
            // Deleted or moved to storage meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(cannot("copied", &recordings.join(&name), &error)),
        }
    }
    let sum = (files.len(), files.iter().map(|file| file.size_bytes).sum());
    let tm_create = Clock::new().wall().to_string();
    let manifest = Manifest { confab: env!("CARGO_PKG_VERSION").to_owned(), tm_create, files };
    let text = serde_json::to_string_pretty(&manifest).expect("a manifest is plain data with string keys");
    let path = to.join(MANIFEST);
    let written = new_file(&path).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|error| cannot("written", &path, &error))?;
    Ok(sum)
}

fn copy_database(data: &Path, to: &Path) -> Result<Entry, Failure> {
    let path = to.join(DATABASE_FILE);
    // Made before SQLite would, which would let others read it.
    new_file(&path).map_err(|error| cannot("written", &path, &error))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::other("the async runtime cannot be started", &error))?;
    runtime
        .block_on(store::copy_database(data, &path))
        .map_err(|error| Failure::other("the database cannot be copied", &error))?;
    let hashed = File::open(&path).and_then(|file| {
        file.sync_all()?;
        hash(file, &mut io::sink())
    });
    let (size_bytes, sha256) = hashed.map_err(|error| cannot("read", &path, &error))?;
    Ok(Entry { name: DATABASE_FILE.to_owned(), size_bytes, sha256 })
}

/// Runs `confab restore`.
pub(super) fn restore(options: &RestoreOptions) -> Result<ExitCode, Failure> {
    let RestoreOptions { from, data } = options;
    if !names(data).map_err(|error| cannot("read", data, &error))?.is_empty() {
        let next = vec!["name a new folder with --data, or move this one away first".to_owned()];
        return Err(Failure::advice(format!("{} is not empty", data.display()), next));
    }
    let path = from.join(MANIFEST);
    let text = fs::read_to_string(&path).map_err(|error| cannot("read", &path, &error))?;
    let manifest: Manifest =
        serde_json::from_str(&text).map_err(|error| Failure::other("backup.json is damaged", &error))?;
    for entry in &manifest.files {
        check(from, entry)?;
    }
    make_folder(data).map_err(|error| cannot("made", data, &error))?;
    Folder::open(data).map_err(|error| cannot("made", data, &error))?;
    // The database last: without it no server takes the folder for whole.
    for entry in manifest.files.iter().rev() {
        let to = data.join(&entry.name);
        copy(&from.join(&entry.name), &to).map_err(|error| cannot("written", &to, &error))?;
    }
    print(&format!(
        "{}: {} files as of {}; start it with: confab serve --data {}\n",
        data.display(),
        manifest.files.len(),
        manifest.tm_create,
        data.display()
    ));
    Ok(ExitCode::SUCCESS)
}

/// Holds a file of a backup against its hash.
fn check(from: &Path, entry: &Entry) -> Result<(), Failure> {
    let path = from.join(&entry.name);
    let is_ours = entry.name == DATABASE_FILE
        || entry
            .name
            .strip_prefix(record::FOLDER)
            .and_then(|rest| rest.strip_prefix('/'))
            .is_some_and(|name| !name.contains('/') && name != "..");
    let file = if is_ours { File::open(&path) } else { Err(ErrorKind::InvalidFilename.into()) };
    let found = file.and_then(|file| hash(file, &mut io::sink()));
    let (size_bytes, sha256) = found.map_err(|error| cannot("read", &path, &error))?;
    if (size_bytes, &sha256) != (entry.size_bytes, &entry.sha256) {
        let next = vec!["take another backup; nothing was restored".to_owned()];
        return Err(Failure::advice(format!("{} is not as it was backed up", path.display()), next));
    }
    Ok(())
}

/// Names in a folder; none when it is not there.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let name = |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
    let mut names = entries.map(name).collect::<io::Result<Vec<String>>>()?;
    names.sort();
    Ok(names)
}

/// Makes a folder that its owner alone may look into.
fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Makes a file that its owner alone may read.
fn new_file(path: &Path) -> io::Result<File> {
    File::options().create_new(true).write(true).mode(0o600).open(path)
}

/// Copies a file to a new one, onto the disk. Returns its size and hash.
fn copy(from: &Path, to: &Path) -> io::Result<(u64, String)> {
    // Opened first: of what has gone there is no copy, not even an empty one.
    let from = File::open(from)?;
    let mut copy = new_file(to)?;
    let hashed = hash(from, &mut copy)?;
    copy.sync_all()?;
    Ok(hashed)
}

/// Reads a file into `sink`. Returns its size and hash.
fn hash(mut file: File, sink: &mut dyn io::Write) -> io::Result<(u64, String)> {
    let (mut digest, mut size) = (Sha256::new(), 0);
    let mut chunk = vec![0; CHUNK];
    loop {
        match file.read(&mut chunk)? {
            0 => break,
            read => {
                digest.update(&chunk[..read]);
                sink.write_all(&chunk[..read])?;
                size += read as u64;
            }
        }
    }
    let sha256 = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((size, sha256))
}

fn cannot(be: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::other(&format!("{} cannot be {be}", path.display()), error)
}
