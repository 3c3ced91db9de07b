//! Recordings in S3-compatible storage. They are written to the data folder, whatever the storage does;
//! when one has ended, its files are listed in the store and moved, and deleted there when it is deleted.
//!
//! One task owns what is moved. It asks the store what is due, so nothing is forgotten by a kill; it has a
//! few files under way at once, and while the storage fails it tries one, ever more rarely. The bytes are
//! read, hashed and sent by a thread of a low priority: neither calls nor signalling wait for them.

mod http;
mod remote;
mod transfer;

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::Folder;
use crate::id::RecordingId;
use crate::net::clock::{Clock, be_nice};
use crate::store::{FileState, FilesDue, RecordingFile, Store, StoreError};
pub use remote::{Refused, Remote};
use transfer::{Failure, Transfer};

/// Files under way at once, to the storage or out of it.
pub const UNDER_WAY_MAX: usize = 4;
/// Recordings whose files are listed in one go.
const LIST_BATCH: u32 = 64;
/// How often it is looked what is due while something is to be done.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long after a failure the next try is; doubles up to [`RETRY_LAST`].
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// The longest wait between two tries.
const RETRY_LAST: Duration = Duration::from_secs(60);
/// How often the log says that the storage still fails.
const REMIND_EVERY: Duration = Duration::from_secs(600);
/// The niceness of the thread that moves bytes.
const NICENESS: libc::c_int = 10;

/// What the owner counts.
#[derive(Debug, Default)]
pub struct Counters {
    /// Files yet to be uploaded.
    pub uploads_waiting: AtomicU64,
    /// Their bytes.
    pub bytes_waiting: AtomicU64,
    /// Files yet to be deleted from the storage.
    pub deletions_waiting: AtomicU64,
    /// Files under way.
    pub under_way: AtomicU64,
    /// Files that were uploaded.
    pub uploaded: AtomicU64,
    /// Their bytes.
    pub uploaded_bytes: AtomicU64,
    /// Files that were deleted from the storage.
    pub deleted: AtomicU64,
    /// Tries that failed.
    pub failures: AtomicU64,
    /// Files that are neither in the data folder nor in the storage.
    pub lost: AtomicU64,
    /// Whether the last try failed.
    pub fails: AtomicBool,
}

impl Counters {
    /// What is yet to be done, in a sentence for people; `None` when there is nothing. Says nothing that
    /// only operators may know: where the storage is, and how it fails, is in the log.
    pub fn note(&self) -> Option<String> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (files, bytes) = (read(&self.uploads_waiting), read(&self.bytes_waiting));
        let deletions = read(&self.deletions_waiting);
        let fails = self.fails.load(Ordering::Relaxed);
        (files + deletions > 0).then(|| {
            let why = if fails { "; the storage fails, the log says how" } else { "" };
            format!("{files} files of recordings ({bytes} bytes) wait to be uploaded, {deletions} to be deleted{why}")
        })
    }

    fn set_due(&self, due: FilesDue) {
        self.uploads_waiting.store(due.uploads, Ordering::Relaxed);
        self.bytes_waiting.store(due.upload_bytes, Ordering::Relaxed);
        self.deletions_waiting.store(due.deletions, Ordering::Relaxed);
    }
}

/// The running owner. Dropping it stops it; what was under way is due again at the next start.
#[derive(Debug)]
pub struct Storage {
    /// What it counts.
    pub counters: Arc<Counters>,
    task: JoinHandle<()>,
    runtime: Option<Runtime>,
}

impl Storage {
    /// Starts it on the runtime that runs.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn start(store: Store, folder: Folder, remote: Remote, clock: Clock) -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(UNDER_WAY_MAX)
            .thread_name("confab-storage")
            .on_thread_start(|| be_nice(NICENESS))
            .enable_all()
            .build()?;
        let counters = Arc::new(Counters::default());
        let transfer = Transfer {
            store: store.clone(),
            folder: folder.clone(),
            remote: remote.clone(),
            thread: runtime.handle().clone(),
            counters: counters.clone(),
        };
        let owner = Owner {
            store,
            folder,
            remote,
            transfer: Arc::new(transfer),
            clock,
            counters: counters.clone(),
            under_way: BTreeSet::new(),
            moves: FuturesUnordered::new(),
            trouble: None,
        };
        Ok(Self { counters, task: tokio::spawn(owner.run()), runtime: Some(runtime) })
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(runtime) = self.runtime.take() {
            // A slow request is not waited for.
            runtime.shutdown_background();
        }
    }
}

/// How the storage fails: since when the log was told last, when it is tried next, and the wait after.
#[derive(Clone, Copy, Debug)]
struct Trouble {
    told: Instant,
    retry_at: Instant,
    wait: Duration,
}

/// A file that was moved, or not.
type Done = (RecordingFile, Result<(), Failure>);

struct Owner {
    store: Store,
    folder: Folder,
    remote: Remote,
    transfer: Arc<Transfer>,
    clock: Clock,
    counters: Arc<Counters>,
    under_way: BTreeSet<(RecordingId, String)>,
    moves: FuturesUnordered<BoxFuture<'static, Done>>,
    trouble: Option<Trouble>,
}

impl Owner {
    async fn run(mut self) {
        let mut changes = self.store.files_change();
        info!(storage = self.remote.location(""), "recordings are moved to storage when they have ended");
        if let Err(error) = self.store.retry_files().await {
            warn!(%error, "files of recordings wait for their time rather than being tried at once");
        }
        let mut store_fails = false;
        loop {
            let looked = self.look().await;
            let is_idle = looked.as_ref().is_ok_and(|due| due.uploads + due.deletions == 0);
            // Once, not at every look.
            if let Err(error) = &looked
                && !store_fails
            {
                warn!(%error, "what is to be moved to storage cannot be read or noted; tried again every second");
            }
            store_fails = looked.is_err();
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                Some(done) = self.moves.next() => self.settle(done).await,
                () = tokio::time::sleep(LOOK_EVERY), if !is_idle => {}
            }
        }
    }

    /// Lists what has ended, and starts to move what is due and has room.
    async fn look(&mut self) -> Result<FilesDue, StoreError> {
        while self.list_ended().await? {}
        let now = Instant::now();
        let room = match self.trouble {
            None => UNDER_WAY_MAX,
            Some(trouble) if now >= trouble.retry_at => 1,
            Some(_) => 0,
        };
        if self.under_way.len() < room {
            // Those under way are due too.
            let limit = (UNDER_WAY_MAX + room) as u32;
            for file in self.store.due_files(self.clock.wall(), limit).await? {
                let key = (file.recording, file.name.clone());
                if self.under_way.len() < room && self.under_way.insert(key) {
                    let transfer = self.transfer.clone();
                    self.moves.push(Box::pin(async move {
                        let done = transfer.run(file.clone()).await;
                        (file, done)
                    }));
                }
            }
        }
        let due = self.store.files_due().await?;
        self.counters.set_due(due);
        self.counters.under_way.store(self.under_way.len() as u64, Ordering::Relaxed);
        Ok(due)
    }

    /// Lists the files of recordings that have ended. Returns whether there may be more.
    async fn list_ended(&mut self) -> Result<bool, StoreError> {
        let ended = self.store.recordings_to_list(LIST_BATCH).await?;
        if ended.is_empty() {
            return Ok(false);
        }
        let (folder, wanted) = (self.folder.clone(), ended.clone());
        let listed = tokio::task::spawn_blocking(move || folder.sizes(&wanted)).await;
        let files = match listed.unwrap_or_else(|panicked| Err(io::Error::other(panicked))) {
            Ok(files) => files,
            Err(error) => {
                warn!(%error, "the folder of recordings cannot be read; what has ended there is not uploaded yet");
                return Ok(false);
            }
        };
        for recording in ended {
            let of = files.iter().filter(|(of, ..)| *of == recording);
            let rows: Vec<(String, String, u64)> =
                of.map(|(_, name, bytes)| (name.clone(), self.remote.location(name), *bytes)).collect();
            self.store.list_files(recording, &rows).await?;
        }
        Ok(true)
    }

    async fn settle(&mut self, (file, done): Done) {
        self.under_way.remove(&(file.recording, file.name.clone()));
        let failure = match done {
            Ok(()) => {
                if self.trouble.take().is_some() {
                    self.counters.fails.store(false, Ordering::Relaxed);
                    info!("the storage of recordings works again");
                }
                return;
            }
            Err(failure) => failure,
        };
        self.counters.failures.fetch_add(1, Ordering::Relaxed);
        let wait = RETRY_FIRST.saturating_mul(1 << file.attempts.min(6)).min(RETRY_LAST);
        if let Err(error) =
            self.store.file_failed(&file, &failure.to_string(), self.clock.wall().plus(wait)).await
        {
            warn!(%error, "it cannot be kept that a file of a recording could not be moved");
        }
        match failure {
            Failure::Remote(refused) => self.storage_failed(&refused),
            Failure::Here(why) => {
                error!(recording = %file.recording, name = file.name, "a file of a recording cannot be moved, tried again: {why}");
            }
        }
    }

    /// The storage fails: it is tried ever more rarely, and the log is told once, and now and then.
    fn storage_failed(&mut self, refused: &Refused) {
        let now = Instant::now();
        self.counters.fails.store(true, Ordering::Relaxed);
        let (told, wait) = match self.trouble {
            // Those that were under way beside the first fail with it.
            Some(trouble) if now < trouble.retry_at => return,
            Some(trouble) => (trouble.told, (trouble.wait * 2).min(RETRY_LAST)),
            None => (now, RETRY_FIRST),
        };
        let is_new = self.trouble.is_none();
        let reminds = now.duration_since(told) >= REMIND_EVERY;
        if is_new || reminds {
            let waiting = self.counters.uploads_waiting.load(Ordering::Relaxed);
            error!(
                waiting,
                "the storage fails; recordings stay in the data folder and are tried again: {refused}"
            );
        }
        let told = if reminds { now } else { told };
        self.trouble = Some(Trouble { told, retry_at: now + wait, wait });
    }
}
