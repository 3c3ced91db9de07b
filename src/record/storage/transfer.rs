//! How one file is moved: uploaded, found whole, noted, and only then removed from the data folder.

use std::fs::File;
use std::future::Future;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::runtime::Handle;
use tracing::{error, info, warn};

use super::{Counters, FileState, Folder, RecordingFile, Refused, Remote, Store};
use crate::record::folder::media_type;

/// Bytes of a part: above the least that S3 takes (5 MiB); the longest recording is a thousand of them,
/// and ten thousand are the most.
pub(super) const PART_BYTES: u64 = 8 << 20;

/// Why a file was not moved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    /// The storage did not do its part.
    #[error(transparent)]
    Remote(#[from] Refused),
    /// It is for reasons of this machine.
    #[error("{0}")]
    Here(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Here(error.to_string())
    }
}

/// What tells whether a file is still what it was: size, and when it was changed.
type Mark = (u64, i64, i64);

/// What moves files.
#[derive(Debug)]
pub(super) struct Transfer {
    pub store: Store,
    pub folder: Folder,
    pub remote: Remote,
    /// Where bytes are read, hashed and sent.
    pub thread: Handle,
    pub counters: Arc<Counters>,
}

impl Transfer {
    /// Moves a file that is due.
    pub async fn run(&self, file: RecordingFile) -> Result<(), Failure> {
        match file.state {
            FileState::Waiting => self.upload(file).await,
            FileState::Going => self.delete(file).await,
            FileState::Stored => Ok(()),
        }
    }

    /// Does something on the thread that moves bytes.
    async fn aside<T: Send + 'static, E: Send + 'static>(
        &self,
        what: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<T, Failure>
    where
        Failure: From<E>,
    {
        let done = self.thread.spawn(what).await;
        done.map_err(|panicked| Failure::Here(panicked.to_string()))?.map_err(Failure::from)
    }

    async fn upload(&self, mut file: RecordingFile) -> Result<(), Failure> {
        let begun = tokio::time::Instant::now();
        let path = self.folder.file(&file.name);
        let opened = self.aside(async move { blocking(move || open(&path)).await }).await?;
        // Moved, and killed before that was noted; or taken away by another.
        let Some((source, mark)) = opened else { return self.recover(&file).await };
        self.give_up_parts(&mut file).await?;
        let size = mark.0;
        let location = self.remote.location(&file.name);
        if file.location != location || file.size_bytes != size {
            (file.location, file.size_bytes) = (location, size);
            self.note_upload(&file).await;
        }
        if size <= PART_BYTES {
            self.put(&file, source).await?;
        } else {
            self.put_parts(&mut file, source).await?;
        }
        self.check(&file, mark).await?;
        if let Err(error) = self.store.file_stored(&file).await {
            // The object is there, and its row says where: the next try finds it.
            warn!(recording = %file.recording, %error, "it cannot be noted yet that a file of a recording was uploaded");
        }
        let path = self.folder.file(&file.name);
        self.aside(async move { blocking(move || remove(&path)).await }).await?;
        self.counters.uploaded.fetch_add(1, Ordering::Relaxed);
        self.counters.uploaded_bytes.fetch_add(size, Ordering::Relaxed);
        let took_ms = begun.elapsed().as_millis() as u64;
        info!(recording = %file.recording, location = file.location, bytes = size, took_ms, "a file of a recording was moved to storage");
        Ok(())
    }

    /// Gives up what an earlier try has uploaded in parts.
    async fn give_up_parts(&self, file: &mut RecordingFile) -> Result<(), Failure> {
        let id = std::mem::take(&mut file.upload_id);
        if id.is_empty() {
            return Ok(());
        }
        let (remote, location) = (self.remote.clone(), file.location.clone());
        self.aside(async move { remote.abort(&location, &id).await }).await?;
        self.note_upload(file).await;
        Ok(())
    }

    /// Keeps where a file is uploaded to. Where the disk is full that cannot be, and then it is uploaded
    /// all the same: that makes room.
    async fn note_upload(&self, file: &RecordingFile) {
        if let Err(error) = self.store.begin_upload(file).await {
            warn!(recording = %file.recording, %error, "the upload of a file of a recording cannot be noted");
        }
    }

    async fn put(&self, file: &RecordingFile, source: Arc<File>) -> Result<(), Failure> {
        let (remote, location, kind) = (self.remote.clone(), file.location.clone(), media_type(&file.name));
        let size = file.size_bytes;
        self.aside(async move {
            let bytes = read(source, 0, size).await?;
            remote.put(&location, kind, bytes).await.map_err(Failure::from)
        })
        .await
    }

    async fn put_parts(&self, file: &mut RecordingFile, source: Arc<File>) -> Result<(), Failure> {
        let (remote, location, kind) = (self.remote.clone(), file.location.clone(), media_type(&file.name));
        file.upload_id = self.aside(async move { remote.begin(&location, kind).await }).await?;
        // So that a kill leaves no parts behind for ever.
        self.note_upload(file).await;
        let (remote, location, id) = (self.remote.clone(), file.location.clone(), file.upload_id.clone());
        let size = file.size_bytes;
        self.aside(async move {
            let mut parts = Vec::new();
            for at in (0..size).step_by(PART_BYTES as usize) {
                let bytes = read(source.clone(), at, PART_BYTES.min(size - at)).await?;
                parts.push(remote.part(&location, &id, parts.len(), bytes).await?);
            }
            remote.complete(&location, &id, parts).await.map_err(Failure::from)
        })
        .await
    }

    /// Holds what the storage has against what was read, and that against what is in the folder now.
    async fn check(&self, file: &RecordingFile, mark: Mark) -> Result<(), Failure> {
        let (remote, location) = (self.remote.clone(), file.location.clone());
        let there = self.aside(async move { remote.size(&location).await }).await?;
        if there != Some(file.size_bytes) {
            let there = there.map_or("nothing".to_owned(), |bytes| format!("{bytes} bytes"));
            let words = format!("{} has {there} after {} were uploaded", file.location, file.size_bytes);
            return Err(Refused(words).into());
        }
        let path = self.folder.file(&file.name);
        match self.aside(async move { blocking(move || open(&path)).await }).await? {
            Some((_, now)) if now != mark => {
                Err(Failure::Here("it changed while it was uploaded".to_owned()))
            }
            // None: deleted meanwhile with its recording; its row says that it is to go.
            _ => Ok(()),
        }
    }

    /// A file that is not in the folder any more: it is in the storage, or lost.
    async fn recover(&self, file: &RecordingFile) -> Result<(), Failure> {
        let (remote, location) = (self.remote.clone(), file.location.clone());
        let there = self.aside(async move { remote.size(&location).await }).await?;
        let kept = if there == Some(file.size_bytes) {
            self.store.file_stored(file).await
        } else {
            self.counters.lost.fetch_add(1, Ordering::Relaxed);
            error!(recording = %file.recording, name = file.name, "a file of a recording is gone from the data folder and not in the storage");
            self.store.file_gone(file).await
        };
        kept.map_err(|error| Failure::Here(error.to_string()))
    }

    async fn delete(&self, file: RecordingFile) -> Result<(), Failure> {
        let (remote, its) = (self.remote.clone(), file.clone());
        self.aside(async move {
            if !its.upload_id.is_empty() {
                remote.abort(&its.location, &its.upload_id).await?;
            }
            remote.delete(&its.location).await
        })
        .await?;
        self.store.file_gone(&file).await.map_err(|error| Failure::Here(error.to_string()))?;
        self.counters.deleted.fetch_add(1, Ordering::Relaxed);
        info!(recording = %file.recording, location = file.location, "a file of a deleted recording was deleted from storage");
        Ok(())
    }
}

async fn blocking<T: Send + 'static>(what: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(what).await.unwrap_or_else(|panicked| Err(io::Error::other(panicked)))
}

/// Opens a file, if it is there.
fn open(path: &Path) -> io::Result<Option<(Arc<File>, Mark)>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let found = file.metadata()?;
    Ok(Some((Arc::new(file), (found.len(), found.mtime(), found.mtime_nsec()))))
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

async fn read(source: Arc<File>, at: u64, length: u64) -> Result<Bytes, Failure> {
    let read = blocking(move || {
        let mut bytes = vec![0; length as usize];
        source.read_exact_at(&mut bytes, at)?;
        Ok(bytes.into())
    });
    Ok(read.await?)
}
