//! `confab recording download`: a file on its way, which goes on where it was when the connection breaks.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, ETAG, HeaderMap, HeaderValue};
use hyper::{Method, Response, StatusCode};
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use serde_json::json;

use super::client::Client;
use super::conference::{escaped, pretty, text};
use super::options::{Output, Wanted};
use super::recording::path;
use crate::app::failure::Failure;
use crate::app::ready::print;
use crate::time::Duration;

/// How soon a broken connection is made anew.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Attempts without a byte in between before it is given up.
const ATTEMPTS_MAX: u32 = 10;
/// How long nothing may come before the connection counts as broken.
const STALLED_AFTER: Duration = Duration::from_secs(30);

pub(super) async fn download(client: &Client, output: Output, wanted: &Wanted) -> Result<ExitCode, Failure> {
    let recording = client.call(Method::GET, &path(&wanted.id), None).await?;
    let id = text(&recording, "id");
    let (file, name) = match &wanted.track {
        Some(track) => (format!("{id}?track={}", escaped(Some(track))), format!("{id}.{track}.wav")),
        None if wanted.marks => (format!("{id}.json"), format!("{id}.json")),
        None => (id.clone(), format!("{id}.{}", text(&recording, "format"))),
    };
    let to = wanted.to.clone().unwrap_or_else(|| PathBuf::from(name));
    if to.exists() {
        let next = vec!["name another file with --to".to_owned()];
        return Err(Failure::advice(format!("{} is there already", to.display()), next));
    }
    let part = part_of(&to);
    let sink = File::create(&part).map_err(|error| cannot_write(&part, &error))?;
    let mut fetch = Fetch { client, path: format!("/recordingfiles/{file}"), sink, at: 0, bar: bar() };
    let fetched = match fetch.run().await {
        Ok(()) => fetch.sink.sync_all().and_then(|()| fs::rename(&part, &to)),
        Err(failure) => {
            // A part of a file that looks like a whole one helps nobody; that it stays is no second fault.
            let _ = fs::remove_file(&part);
            return Err(failure);
        }
    };
    fetched.map_err(|error| cannot_write(&to, &error))?;
    let bytes = fetch.at;
    print(&match output {
        Output::Json => pretty(&json!({ "id": id, "file": to.display().to_string(), "size_bytes": bytes })),
        Output::Table => format!("{}  {}\n", to.display(), HumanBytes(bytes)),
    });
    Ok(ExitCode::SUCCESS)
}

/// Where the file is until it is whole.
fn part_of(to: &Path) -> PathBuf {
    let mut name = to.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

/// Progress on standard error, where that is a terminal.
fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left");
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    Failure::other(&format!("{} cannot be written", path.display()), error)
}

/// A file on its way.
struct Fetch<'a> {
    client: &'a Client,
    path: String,
    sink: File,
    /// Bytes that have come.
    at: u64,
    bar: ProgressBar,
}

impl Fetch<'_> {
    async fn run(&mut self) -> Result<(), Failure> {
        let mut etag: Option<HeaderValue> = None;
        let mut attempts = 0;
        loop {
            let before = self.at;
            let part = etag.as_ref().filter(|_| before > 0).map(|etag| (before, etag));
            let why = match self.client.open(&self.path, part).await? {
                Ok(answer) => {
                    self.begin(&answer)?;
                    etag = answer.headers().get(ETAG).cloned().or(etag);
                    match self.take(answer).await? {
                        None => return Ok(()),
                        Some(why) => why,
                    }
                }
                Err(why) => why,
            };
            attempts = if self.at == before { attempts + 1 } else { 0 };
            if attempts >= ATTEMPTS_MAX {
                return Err(self.client.unreachable(&why));
            }
            self.bar.suspend(|| eprintln!("the connection broke after {} bytes ({why}); going on", self.at));
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    /// Goes on where the answer begins: where we were, or, if the file is another, at its start.
    fn begin(&mut self, answer: &Response<Incoming>) -> Result<(), Failure> {
        if answer.status() != StatusCode::PARTIAL_CONTENT && self.at > 0 {
            let anew = self.sink.set_len(0).and_then(|()| io::Seek::rewind(&mut self.sink));
            anew.map_err(|error| Failure::other("the file cannot be begun anew", &error))?;
            self.at = 0;
        }
        self.bar.set_length(self.at + length(answer.headers()).unwrap_or(0));
        self.bar.set_position(self.at);
        Ok(())
    }

    /// Takes the body. Gives why it broke off, if it did.
    async fn take(&mut self, answer: Response<Incoming>) -> Result<Option<String>, Failure> {
        let end = length(answer.headers()).map(|length| self.at + length);
        let mut body = answer.into_body();
        loop {
            let frame = match tokio::time::timeout(STALLED_AFTER, body.frame()).await {
                Err(_) => return Ok(Some(format!("nothing came for {STALLED_AFTER:?}"))),
                Ok(Some(Err(error))) => return Ok(Some(error.to_string())),
                Ok(None) if end.is_some_and(|end| self.at < end) => return Ok(Some("cut short".to_owned())),
                Ok(None) => return Ok(None),
                Ok(Some(Ok(frame))) => frame,
            };
            let Ok(bytes) = frame.into_data() else { continue };
            self.sink
                .write_all(&bytes)
                .map_err(|error| Failure::other("the file cannot be written", &error))?;
            self.at += bytes.len() as u64;
            self.bar.set_position(self.at);
            if end == Some(self.at) {
                // Whatever happens to the connection now.
                return Ok(None);
            }
        }
    }
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
