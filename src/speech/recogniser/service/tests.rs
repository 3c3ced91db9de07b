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
    fn recognise(&mut self, utterance: &Utterance, language: &str, _: Care) -> Result<String, EngineError> {
        match language {
            "xx" => Err(EngineError::Broken("it broke".to_owned())),
            "yy" => Err(EngineError::Passing("not this one".to_owned())),
            _ => Ok(format!("{} ms", utterance.length().as_millis())),
        }
    }
}

/// Has a recogniser hear 600 ms of a voice, and gives what it reports until it has finished or failed.
fn reports_of(make: MakeEngine, language: &str) -> (Vec<SpeechReport>, Arc<Counters>) {
    let (sender, reports) = channel();
    let outlet = Box::new(move |report| drop(sender.send(report)));
    let (recogniser, inlet) = Recogniser::start(make, outlet).expect("two threads");
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
    let (told, counters) = reports_of(Box::new(|| Ok(Box::new(Ruler))), "en");
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
    assert_eq!(reports_of(Box::new(|| Err("no models".to_owned())), "en").0, failed("no models"));
    assert_eq!(reports_of(Box::new(|| Ok(Box::new(Ruler))), "xx").0, failed("it broke"));
}

#[test]
fn one_utterance_that_fails_is_counted_and_the_rest_goes_on() {
    let (told, counters) = reports_of(Box::new(|| Ok(Box::new(Ruler))), "yy");
    assert_eq!(told, [SpeechReport::Finished { transcribe: TRANSCRIBE }]);
    assert_eq!(counters.failures.load(Relaxed), 1);
}
