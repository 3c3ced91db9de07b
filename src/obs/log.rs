//! Log lines, for people or as JSON. They are written by a thread of their own behind a bounded
//! queue: a terminal or pipe that is stuck costs log lines, counted, and never a call.

use std::fmt;
use std::io::{self, IsTerminal as _, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::{EnvFilter, reload};

use crate::config::{LogConfig, LogFormat, LogLevel};

/// Lines that wait to be written.
const LINES_MAX: usize = 8_192;

/// Lines lost because the queue was full.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Log lines lost so far because whoever reads the log was too slow.
pub fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Keeps the writing thread; dropping it would not lose lines, [`LogGuard::flush`] waits for them.
#[derive(Debug)]
pub struct LogGuard {
    lines: SyncSender<Entry>,
    /// Changes what is written.
    pub level: LevelSwitch,
}

/// Changes the least level that is written. Cheap to clone.
#[derive(Clone)]
pub struct LevelSwitch(Arc<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>);

impl fmt::Debug for LevelSwitch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LevelSwitch").finish_non_exhaustive()
    }
}

impl LevelSwitch {
    /// Writes lines of this level and above from now on.
    ///
    /// # Errors
    /// When nothing is logged any more.
    pub fn set(&self, level: LogLevel) -> io::Result<()> {
        (self.0)(filter(level)?).map_err(io::Error::other)
    }
}

impl LogGuard {
    /// Waits until every line so far is written.
    pub fn flush(&self) {
        let (done, wait) = sync_channel(1);
        if self.lines.send(Entry::Flush(done)).is_ok() {
            // An error means that the thread is gone, and with it what it could have written.
            let _ = wait.recv();
        }
    }
}

/// Starts logging to standard error for the whole process.
///
/// # Errors
/// When it was started before, or no thread can be made.
pub fn start(config: LogConfig) -> io::Result<LogGuard> {
    let (lines, queue) = sync_channel(LINES_MAX);
    // Standard error is locked line by line: the program's own last words need it too.
    thread::Builder::new().name("confab-log".into()).spawn(move || write_lines(&queue, &mut io::stderr()))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(config.level)?)
        .with_target(false)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(LineSender(lines.clone()));
    let (started, level) = match config.format {
        LogFormat::Text => {
            let builder = builder.with_filter_reloading();
            let handle = builder.reload_handle();
            (builder.try_init(), LevelSwitch(Arc::new(move |filter| handle.reload(filter))))
        }
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true).with_current_span(false).with_filter_reloading();
            let handle = builder.reload_handle();
            (builder.try_init(), LevelSwitch(Arc::new(move |filter| handle.reload(filter))))
        }
    };
    started.map_err(io::Error::other)?;
    Ok(LogGuard { lines, level })
}

/// What is written at a level.
fn filter(level: LogLevel) -> io::Result<EnvFilter> {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    // The store's library tells of every statement at debug; that is its business, not ours.
    let quiet = "sqlx=warn".parse().map_err(io::Error::other)?;
    Ok(EnvFilter::default().add_directive(level.into()).add_directive(quiet))
}

/// What the writing thread gets.
#[derive(Debug)]
enum Entry {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

/// Writes until every sender is gone. An output that fails is no reason to stop taking lines.
fn write_lines(queue: &Receiver<Entry>, output: &mut impl Write) {
    while let Ok(entry) = queue.recv() {
        match entry {
            Entry::Line(line) => {
                let _ = output.write_all(&line);
            }
            Entry::Flush(done) => {
                let _ = output.flush();
                let _ = done.send(());
            }
        }
    }
}

/// Makes a writer per event.
struct LineSender(SyncSender<Entry>);

impl<'a> MakeWriter<'a> for LineSender {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { bytes: Vec::new(), to: self.0.clone() }
    }
}

/// One event's line, sent when it is complete.
struct Line {
    bytes: Vec<u8>,
    to: SyncSender<Entry>,
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let line = std::mem::take(&mut self.bytes);
        if !line.is_empty() && self.to.try_send(Entry::Line(line)).is_err() {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_whole_and_in_order_and_a_full_queue_counts() {
        let (lines, queue) = sync_channel(2);
        let sender = LineSender(lines);
        let before = dropped();
        for text in ["one\n", "two\n", "three\n"] {
            let mut line = sender.make_writer();
            line.write_all(text.as_bytes()).expect("memory");
        }
        assert_eq!(dropped() - before, 1);
        drop(sender);
        let mut output = Vec::new();
        write_lines(&queue, &mut output);
        assert_eq!(output, b"one\ntwo\n");
    }
}
