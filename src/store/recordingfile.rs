//! Files of recordings in object storage, as stored: what is to be uploaded, what is there, what is to
//! go. Whoever moves them asks what is due; all of it outlives the process.

use tokio::sync::watch;

use super::event::signed;
use super::query::{Row, query};
use super::{Store, StoreError};
use crate::id::RecordingId;
use crate::time::Timestamp;

/// Where a file is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileState {
    /// To be uploaded.
    Waiting,
    /// In storage, whole.
    Stored,
    /// To be deleted from storage.
    Going,
}

impl FileState {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            FileState::Waiting => "waiting",
            FileState::Stored => "stored",
            FileState::Going => "going",
        }
    }

    fn named(name: &str) -> Option<FileState> {
        [FileState::Waiting, FileState::Stored, FileState::Going].into_iter().find(|of| of.name() == name)
    }
}

/// A file of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordingFile {
    /// The recording.
    pub recording: RecordingId,
    /// Its name in the data folder.
    pub name: String,
    /// Where it is on its way.
    pub state: FileState,
    /// `s3://bucket/key`: where it is, or will be.
    pub location: String,
    /// An upload in parts that was begun and not completed; empty for none.
    pub upload_id: String,
    /// Its size, in bytes.
    pub size_bytes: u64,
    /// Tries that failed since it is in its state.
    pub attempts: u32,
    /// How the last one failed; empty for none.
    pub failure: String,
}

/// How much is yet to be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FilesDue {
    /// Files to be uploaded.
    pub uploads: u64,
    /// Their bytes.
    pub upload_bytes: u64,
    /// Files to be deleted from storage.
    pub deletions: u64,
}

impl Store {
    /// Wakes when a recording has ended or was deleted.
    pub fn files_change(&self) -> watch::Receiver<()> {
        self.inner.files_changed.subscribe()
    }

    /// Recordings that have ended and whose files are not listed yet, up to `limit`.
    pub async fn recordings_to_list(&self, limit: u32) -> Result<Vec<RecordingId>, StoreError> {
        let rows = query(
            "SELECT id FROM recordings WHERE status = 'ended' AND deleted = 0 AND uploaded = 0 ORDER BY id LIMIT $1",
        )
        .bind(limit)
        .fetch_all(&self.inner.readers)
        .await?;
        rows.iter().map(|row| id(row, "id")).collect()
    }

    /// Lists the files of a recording that are to be uploaded: name, location, bytes. Of one that was
    /// deleted meanwhile, none is.
    pub async fn list_files(
        &self,
        recording: RecordingId,
        files: &[(String, String, u64)],
    ) -> Result<(), StoreError> {
        let mut batch = self.begin().await?;
        let listed = query("UPDATE recordings SET uploaded = 1 WHERE id = $1 AND deleted = 0")
            .bind(recording.to_string())
            .execute(&mut *batch)
            .await?;
        for (name, location, bytes) in files.iter().filter(|_| listed > 0) {
            query(
                "INSERT INTO recording_files (recording_id, name, state, location, size_bytes) \
                 VALUES ($1, $2, 'waiting', $3, $4) ON CONFLICT (recording_id, name) DO NOTHING",
            )
            .bind(recording.to_string())
            .bind(name)
            .bind(location)
            .bind(signed(*bytes))
            .execute(&mut *batch)
            .await?;
        }
        batch.commit().await?;
        Ok(())
    }

    /// Files that are to be uploaded or to go, and due by `now`; the longest due first, up to `limit`.
    pub async fn due_files(&self, now: Timestamp, limit: u32) -> Result<Vec<RecordingFile>, StoreError> {
        let rows = query(
            "SELECT * FROM recording_files WHERE state <> 'stored' AND tm_next <= $1 ORDER BY tm_next LIMIT $2",
        )
        .bind(now.as_micros())
        .bind(limit)
        .fetch_all(&self.inner.readers)
        .await?;
        rows.iter().map(file).collect()
    }

    /// How much is to be done, due or not.
    pub async fn files_due(&self) -> Result<FilesDue, StoreError> {
        let row = query(
            "SELECT count(*) FILTER (WHERE state = 'waiting') AS uploads, \
             CAST(coalesce(sum(size_bytes) FILTER (WHERE state = 'waiting'), 0) AS BIGINT) AS upload_bytes, \
             count(*) FILTER (WHERE state = 'going') AS deletions FROM recording_files WHERE state <> 'stored'",
        )
        .fetch_optional(&self.inner.readers)
        .await?
        .ok_or(sqlx::Error::RowNotFound)?;
        let number = |name: &str| row.try_get::<i64>(name).map(i64::unsigned_abs);
        Ok(FilesDue {
            uploads: number("uploads")?,
            upload_bytes: number("upload_bytes")?,
            deletions: number("deletions")?,
        })
    }

    /// Every file of a recording that is listed, by name.
    pub async fn recording_files(&self, recording: RecordingId) -> Result<Vec<RecordingFile>, StoreError> {
        let rows = query("SELECT * FROM recording_files WHERE recording_id = $1 ORDER BY name")
            .bind(recording.to_string())
            .fetch_all(&self.inner.readers)
            .await?;
        rows.iter().map(file).collect()
    }

    /// A file is about to be uploaded to its `location`, with its `upload_id` if that is in parts.
    pub async fn begin_upload(&self, file: &RecordingFile) -> Result<(), StoreError> {
        query(
            "UPDATE recording_files SET location = $3, upload_id = $4, size_bytes = $5 WHERE recording_id = $1 AND name = $2",
        )
        .bind(file.recording.to_string())
        .bind(&file.name)
        .bind(&file.location)
        .bind(&file.upload_id)
        .bind(signed(file.size_bytes))
        .execute(&self.inner.writer)
        .await?;
        Ok(())
    }

    /// A file is in storage, whole. One whose recording was deleted meanwhile goes on going.
    pub async fn file_stored(&self, file: &RecordingFile) -> Result<(), StoreError> {
        query(
            "UPDATE recording_files SET state = CASE state WHEN 'waiting' THEN 'stored' ELSE state END, upload_id = '', \
             attempts = 0, failure = '' WHERE recording_id = $1 AND name = $2",
        )
        .bind(file.recording.to_string())
        .bind(&file.name)
        .execute(&self.inner.writer)
        .await?;
        Ok(())
    }

    /// A try failed; the next is due at `tm_next`.
    pub async fn file_failed(
        &self,
        file: &RecordingFile,
        failure: &str,
        tm_next: Timestamp,
    ) -> Result<(), StoreError> {
        query(
            "UPDATE recording_files SET attempts = attempts + 1, failure = $3, tm_next = $4 WHERE recording_id = $1 AND name = $2",
        )
        .bind(file.recording.to_string())
        .bind(&file.name)
        .bind(failure)
        .bind(tm_next.as_micros())
        .execute(&self.inner.writer)
        .await?;
        Ok(())
    }

    /// A file is not in storage any more, and nothing of it.
    pub async fn file_gone(&self, file: &RecordingFile) -> Result<(), StoreError> {
        query("DELETE FROM recording_files WHERE recording_id = $1 AND name = $2")
            .bind(file.recording.to_string())
            .bind(&file.name)
            .execute(&self.inner.writer)
            .await?;
        Ok(())
    }

    /// Makes everything that is to be done due at once: the storage works again, or may.
    pub async fn retry_files(&self) -> Result<(), StoreError> {
        query("UPDATE recording_files SET tm_next = 0 WHERE state <> 'stored' AND tm_next <> 0")
            .execute(&self.inner.writer)
            .await?;
        Ok(())
    }
}

fn id(row: &Row, column: &str) -> Result<RecordingId, StoreError> {
    let text: &str = row.try_get(column)?;
    text.parse().map_err(|_| damaged(format!("{text:?} is no recording's id")))
}

fn file(row: &Row) -> Result<RecordingFile, StoreError> {
    let state: &str = row.try_get("state")?;
    Ok(RecordingFile {
        recording: id(row, "recording_id")?,
        name: row.try_get("name")?,
        state: FileState::named(state).ok_or_else(|| damaged(format!("{state:?} is no state")))?,
        location: row.try_get("location")?,
        upload_id: row.try_get("upload_id")?,
        size_bytes: row.try_get::<i64>("size_bytes")?.unsigned_abs(),
        attempts: u32::try_from(row.try_get::<i64>("attempts")?).unwrap_or(u32::MAX),
        failure: row.try_get("failure")?,
    })
}

fn damaged(why: String) -> StoreError {
    StoreError::Damaged { what: "file of a recording", why }
}
