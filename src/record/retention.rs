//! Retention: recordings go when they are too old, or when all together are too large, the oldest
//! first.

use tokio::sync::watch;
use tracing::{info, warn};

use super::Folder;
use crate::net::clock::Clock;
use crate::store::{EndedRecording, Store, StoreError};
use crate::time::{Duration, Timestamp};

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Recordings that go at one look.
const BATCH: u32 = 256;

/// What is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// How long; `None` for ever.
    pub age: Option<Duration>,
    /// How many bytes of all recordings; `None` as many as there are.
    pub bytes: Option<u64>,
}

/// Keeps to what is set, for ever.
pub async fn run(mut kept: watch::Receiver<Retention>, store: Store, folder: Folder, clock: Clock) {
    loop {
        let retention = *kept.borrow_and_update();
        let keeps_all = retention.age.is_none() && retention.bytes.is_none();
        if !keeps_all && let Err(error) = retention.apply(&store, &folder, clock.wall()).await {
            warn!(%error, "recordings that are to go could not be removed; tried again in a minute");
        }
        tokio::select! {
            // Its sender gone means that nothing changes any more.
            Ok(()) = kept.changed() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

impl Retention {
    /// Removes what is to go at `now`. Returns how many recordings.
    ///
    /// # Errors
    /// What the store says; files that could not be removed are in the log.
    pub async fn apply(&self, store: &Store, folder: &Folder, now: Timestamp) -> Result<usize, StoreError> {
        let age = self.age.map_or(i64::MAX, |age| i64::try_from(age.as_micros()).unwrap_or(i64::MAX));
        let before = Timestamp::from_micros(now.as_micros().saturating_sub(age));
        let outlived = store.outlived_recordings(before, self.bytes.unwrap_or(u64::MAX), BATCH).await?;
        let mut gone = 0;
        for recording in outlived {
            let done = store.delete_recording(recording.customer_id, recording.id, now).await?;
            if !matches!(done, EndedRecording::Deleted(_)) {
                continue;
            }
            gone += 1;
            if let Err(error) = folder.remove(recording.id) {
                warn!(recording = %recording.id, %error, "the files of a recording that is to go stay");
            }
        }
        if gone > 0 {
            info!(gone, "recordings have outlived what is kept");
        }
        Ok(gone)
    }
}
