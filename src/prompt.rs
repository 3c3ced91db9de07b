//! Prompts: sounds from URLs, fetched, decoded to mono at the room's rate, and kept for a while. Many
//! callers who come at once share one fetch.

mod decode;
mod resample;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use hyper::Method;
use tokio::sync::{OnceCell, Semaphore};

use crate::media::room::RATE_HZ;
use crate::net::clock::Clock;
use crate::net::http::{Failure, HttpClient, request};
use crate::plane::Clip;
use crate::time::{Duration, Instant};
pub use decode::{DecodeError, decode};
pub use resample::resample;

/// Bytes of a sound as fetched; a longer one is not played.
pub const FETCH_MAX_BYTES: usize = 10 << 20;
/// The longest prompt; what is over is not played.
pub const PROMPT_MAX: Duration = Duration::from_secs(300);
/// Prompts decoded at once: each keeps a core busy and holds the whole sound.
pub const DECODERS_MAX: usize = 2;
/// Prompts kept.
pub const KEPT_MAX: usize = 1000;
/// Bytes of all prompts kept.
pub const KEPT_MAX_BYTES: usize = 64 << 20;
/// How long a prompt is kept; then it is fetched anew.
pub const KEPT_FOR: Duration = Duration::from_secs(300);

/// A prompt that is being fetched, or is there.
type Fetched = Arc<OnceCell<Arc<Clip>>>;

/// The prompts of the server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Prompts {
    http: HttpClient,
    clock: Clock,
    kept: Arc<Mutex<Kept>>,
    decoders: Arc<Semaphore>,
}

impl Prompts {
    /// No prompt is kept. The client reads [`FETCH_MAX_BYTES`] of a sound.
    pub fn new(http: HttpClient) -> Self {
        let decoders = Arc::new(Semaphore::new(DECODERS_MAX));
        Self { http, clock: Clock::new(), kept: Arc::default(), decoders }
    }

    /// The sound at a URL.
    ///
    /// # Errors
    /// When it cannot be fetched or is no sound we know, and why.
    pub async fn clip(&self, url: &str) -> Result<Arc<Clip>, String> {
        let fetched = self.kept().find(self.clock.now(), url);
        let clip = fetched.get_or_try_init(|| self.fetch(url)).await.cloned();
        let mut kept = self.kept();
        match &clip {
            Ok(clip) => kept.weigh(url, &fetched, clip),
            Err(_) => kept.forget(url, &fetched),
        }
        clip
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn fetch(&self, url: &str) -> Result<Arc<Clip>, String> {
        let failed = |failure: Failure| failure.to_string();
        let request = request(Method::GET, url, "", Bytes::new()).map_err(failed)?;
        let answer = self.http.send(request).await.map_err(failed)?;
        if !answer.status.is_success() {
            return Err(format!("HTTP {}", answer.status.as_u16()));
        }
        let sound = answer.whole().map_err(failed)?;
        let _turn = self.decoders.acquire().await.map_err(|_| "the server stops".to_owned())?;
        clip_of(sound.into()).await
    }
}

/// The sound in a file of a kind we know, at the room's rate. Decoding keeps a core busy: it runs
/// beside the tasks.
///
/// # Errors
/// When it is no such file, and why.
pub async fn clip_of(bytes: Vec<u8>) -> Result<Arc<Clip>, String> {
    let decoded = tokio::task::spawn_blocking(move || {
        decode(bytes).map(|sound| Clip::new(RATE_HZ, resample(&sound.samples, sound.rate_hz, RATE_HZ)))
    });
    match decoded.await {
        Ok(Ok(clip)) => Ok(Arc::new(clip)),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the sound broke the decoder".to_owned()),
    }
}

/// What is kept, by URL.
#[derive(Debug, Default)]
struct Kept {
    by_url: HashMap<String, Entry>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    fetched: Fetched,
    since: Instant,
    bytes: usize,
}

impl Kept {
    /// The prompt of this URL: kept, being fetched, or to be fetched by who asks.
    fn find(&mut self, now: Instant, url: &str) -> Fetched {
        let fresh = |entry: &Entry| now.since(entry.since) < KEPT_FOR;
        if let Some(entry) = self.by_url.get(url).filter(|entry| fresh(entry)) {
            return entry.fetched.clone();
        }
        self.remove(url);
        let stale: Vec<String> =
            self.by_url.iter().filter(|(_, entry)| !fresh(entry)).map(|(url, _)| url.clone()).collect();
        stale.iter().for_each(|url| self.remove(url));
        self.make_room(KEPT_MAX - 1, KEPT_MAX_BYTES);
        let fetched = Fetched::default();
        let entry = Entry { fetched: fetched.clone(), since: now, bytes: 0 };
        self.by_url.insert(url.to_owned(), entry);
        fetched
    }

    /// The prompt is there: its size counts from now on.
    fn weigh(&mut self, url: &str, fetched: &Fetched, clip: &Clip) {
        let Some(entry) = self.by_url.get_mut(url) else { return };
        if !Arc::ptr_eq(&entry.fetched, fetched) || entry.bytes > 0 {
            return;
        }
        entry.bytes = size_of_val(clip.samples()).max(1);
        self.bytes += entry.bytes;
        self.make_room(KEPT_MAX, KEPT_MAX_BYTES);
    }

    /// It could not be had: the next who asks tries anew.
    fn forget(&mut self, url: &str, fetched: &Fetched) {
        if self.by_url.get(url).is_some_and(|entry| Arc::ptr_eq(&entry.fetched, fetched)) {
            self.remove(url);
        }
    }

    /// Lets the oldest go until so many of so many bytes are left.
    fn make_room(&mut self, entries: usize, bytes: usize) {
        while self.by_url.len() > entries || self.bytes > bytes {
            let oldest = self.by_url.iter().min_by_key(|(_, entry)| entry.since).map(|(url, _)| url.clone());
            let Some(oldest) = oldest else { return };
            self.remove(&oldest);
        }
    }

    fn remove(&mut self, url: &str) {
        if let Some(entry) = self.by_url.remove(url) {
            self.bytes -= entry.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(kept: &mut Kept, at: u64, url: &str, samples: usize) -> Fetched {
        let fetched = kept.find(Instant::from_millis(at), url);
        kept.weigh(url, &fetched, &Clip::new(8000, vec![0; samples]));
        fetched
    }

    #[test]
    fn a_prompt_is_kept_for_its_time_and_shared() {
        let mut kept = Kept::default();
        let first = keep(&mut kept, 0, "a", 10);
        assert!(Arc::ptr_eq(&first, &kept.find(Instant::from_millis(299_999), "a")));
        assert!(!Arc::ptr_eq(&first, &kept.find(Instant::from_millis(300_000), "a")));
        assert_eq!(kept.bytes, 0);
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many_or_too_much() {
        let mut kept = Kept::default();
        for number in 0..KEPT_MAX as u64 + 5 {
            keep(&mut kept, number, &number.to_string(), 1);
        }
        assert_eq!(kept.by_url.len(), KEPT_MAX);
        assert!(!kept.by_url.contains_key("4") && kept.by_url.contains_key("5"));
        keep(&mut kept, 9999, "long", KEPT_MAX_BYTES / 2);
        assert!(kept.by_url.contains_key("long") && kept.bytes <= KEPT_MAX_BYTES);
    }

    #[test]
    fn what_failed_is_tried_anew() {
        let mut kept = Kept::default();
        let first = kept.find(Instant::ZERO, "a");
        kept.forget("a", &first);
        assert!(!Arc::ptr_eq(&first, &kept.find(Instant::ZERO, "a")));
    }
}
