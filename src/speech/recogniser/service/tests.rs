use super::*;
use std::sync::mpsc::channel;

use crate::id::{ConferencecallId, LegId, TapId, TranscribeId};
use crate::plane::tap::{LegSound, Tap, TapParts};
use crate::speech::recogniser::utterance::Utterance;
use uuid::Uuid;

const TRANSCRIBE: TranscribeId = TranscribeId(Uuid::from_u128(1));
const CALLER: ConferencecallId = ConferencecallId(Uuid::from_u128(2));
/// The longest a thread may take to answer.
const SOON: Duration = Duration::from_secs(20);

/// Says how long what it heard was.
struct Ruler;

impl Engine for Ruler {
    fn recognise(
        &mut self,
        utterance: &Utterance,
        language: &str,
        _: Care<'_>,
    ) -> Result<String, EngineError> {
        match language {
            "xx" => Err(EngineError::Broken("it broke".to_owned())),
            "yy" => Err(EngineError::Passing("not this one".to_owned())),
            _ => Ok(format!("{} ms", utterance.length().as_millis())),
        }
    }
}

/// Has a recogniser hear 600 ms of a voice, and gives what it reports until it has finished or failed.
fn reports_of(engines: impl Engines + 'static, language: &str) -> (Vec<SpeechReport>, Arc<Counters>) {
    let (sender, reports) = channel();
    let outlet = Box::new(move |report| drop(sender.send(report)));
    let (recogniser, inlet) =
        Recogniser::start(Means::Engine(Box::new(engines)), outlet, Rng::from_number(1))
            .expect("two threads");
    let parts = TapParts { legs: LegSound::Own, ..TapParts::default() };
    let tap = Tap::new(TapId(1), parts, 1 << 16);
    let language = language.to_owned();
    inlet.order(SpeechOrder::Begin { transcribe: TRANSCRIBE, language, tap: tap.clone() });
    inlet.order(SpeechOrder::Name { transcribe: TRANSCRIBE, leg: LegId(5), conferencecall: CALLER });
    let mut writer = tap.take_writer().expect("the first");
    for tick in 0..30 {
        writer.begin(tick, 8000);
        writer.leg(LegId(5), &[3000; 160]);
        writer.commit();
    }
    drop(writer);
    inlet.order(SpeechOrder::End { transcribe: TRANSCRIBE });
    let mut told = Vec::new();
    while let Ok(report) = reports.recv_timeout(SOON) {
        let last = !matches!(report, SpeechReport::Heard { .. });
        told.push(report);
        if last {
            break;
        }
    }
    (told, recogniser.counters.clone())
}

#[test]
fn what_a_tap_carries_is_recognised_and_then_the_transcription_is_finished() {
    let (told, counters) = reports_of(|| Ok(Box::new(Ruler) as Box<dyn Engine>), "en");
    let [SpeechReport::Heard { message, conferencecall: CALLER, partial: false, .. }, last] = &told[..]
    else {
        panic!("{told:?}")
    };
    assert_eq!((message.as_str(), last), ("600 ms", &SpeechReport::Finished { transcribe: TRANSCRIBE }));
    assert_eq!((counters.utterances.load(Relaxed), counters.audio_ms.load(Relaxed)), (1, 600));
}

#[test]
fn an_engine_that_cannot_be_made_or_breaks_is_reported() {
    let failed = |why: &str| [SpeechReport::Failed(why.to_owned())];
    assert_eq!(reports_of(|| Err("no models".to_owned()), "en").0, failed("no models"));
    assert_eq!(reports_of(|| Ok(Box::new(Ruler) as Box<dyn Engine>), "xx").0, failed("it broke"));
}

#[test]
fn one_utterance_that_fails_is_counted_and_the_rest_goes_on() {
    let (told, counters) = reports_of(|| Ok(Box::new(Ruler) as Box<dyn Engine>), "yy");
    let [SpeechReport::Heard { message, partial: true, .. }, last] = &told[..] else { panic!("{told:?}") };
    assert_eq!(message, "", "what was shown of it is taken back");
    assert_eq!(last, &SpeechReport::Finished { transcribe: TRANSCRIBE });
    assert_eq!(counters.failures.load(Relaxed), 1);
}

/// Counts how often it is asked, and gives up as soon as it is told to.
struct Counting(Arc<AtomicU64>);

impl Engine for Counting {
    fn recognise(&mut self, utterance: &Utterance, _: &str, care: Care<'_>) -> Result<String, EngineError> {
        if care.is_over() {
            return Err(EngineError::GivenUp);
        }
        self.0.fetch_add(1, Relaxed);
        Ok(format!("{} ms", utterance.length().as_millis()))
    }
}

/// A worker by itself, how often its engine was asked, and what it reports: text and whether in part.
struct Bench {
    worker: Worker,
    asked: Arc<AtomicU64>,
    reports: std::sync::mpsc::Receiver<SpeechReport>,
}

impl Bench {
    fn new() -> Bench {
        let (sender, reports) = channel();
        let (asked, counters) = (Arc::<AtomicU64>::default(), Arc::<Counters>::default());
        let engine = Counting(asked.clone());
        let worker = Worker {
            queue: Arc::new(Queue::new(counters.clone())),
            engines: Box::new(|| Err("it has one".to_owned())),
            engine: Some(Box::new(engine)),
            ahead: VecDeque::new(),
            reports: Box::new(move |report| drop(sender.send(report))),
            counters,
            clock: Clock::new(),
        };
        Bench { worker, asked, reports }
    }

    /// Asked so often, and what was reported since.
    fn done(&self) -> (u64, Vec<(String, bool)>) {
        let told = self.reports.try_iter().map(|report| match report {
            SpeechReport::Heard { message, partial, .. } => (message, partial),
            other => panic!("{other:?}"),
        });
        (self.asked.load(Relaxed), told.collect())
    }
}

/// So many milliseconds of what becomes a transcript.
fn job(transcript: u128, ms: usize) -> Job {
    Job {
        transcribe: TRANSCRIBE,
        conferencecall: CALLER,
        transcript: TranscriptId(Uuid::from_u128(transcript)),
        language: "en".into(),
        utterance: Utterance {
            begins: crate::time::Timestamp::from_micros(0),
            rate_hz: 8000,
            samples: vec![0; ms * 8],
        },
    }
}

fn told(message: &str, partial: bool) -> (String, bool) {
    (message.to_owned(), partial)
}

#[test]
fn what_was_heard_in_a_pause_that_was_the_end_is_not_heard_again() {
    let mut bench = Bench::new();
    bench.worker.work(Work::Early(job(1, 600)));
    assert_eq!(bench.done(), (1, vec![told("600 ms", true)]));
    bench.worker.work(Work::Early(job(2, 300)));
    bench.worker.work(Work::Whole(job(1, 600)));
    assert_eq!(bench.done(), (2, vec![told("300 ms", true), told("600 ms", false)]));
    assert_eq!(bench.worker.counters.utterances.load(Relaxed), 1);
    bench.worker.work(Work::Whole(job(2, 900)));
    assert_eq!(bench.done(), (3, vec![told("900 ms", false)]), "it went on");
    assert!(bench.worker.ahead.is_empty());
    for transcript in 0..AHEAD_MAX as u128 + 1 {
        bench.worker.work(Work::Early(job(transcript, 100)));
    }
    assert_eq!(bench.worker.ahead.len(), AHEAD_MAX, "the oldest is heard again");
}

#[test]
fn what_goes_on_is_given_up_while_something_whole_waits() {
    let mut bench = Bench::new();
    bench.worker.queue.push_whole(job(2, 100));
    bench.worker.work(Work::Partial(job(1, 600)));
    assert_eq!(bench.done(), (0, vec![]));
    assert_eq!(bench.worker.counters.partials_skipped.load(Relaxed), 1);
    bench.worker.work(Work::Whole(job(1, 600)));
    assert_eq!(bench.done(), (1, vec![told("600 ms", false)]));
}
