use super::*;
use crate::id::TapId;
use crate::plane::tap::{LegSound, TapParts, TapWriter};
use crate::speech::recogniser::queue::Work;
use crate::time::Instant;
use uuid::Uuid;

/// A room whose tap is written by hand and heard by the ear.
struct Room {
    ear: Ear,
    queue: Arc<Queue>,
    writer: Option<TapWriter>,
    tick: u64,
}

const TRANSCRIBE: TranscribeId = TranscribeId(Uuid::from_u128(1));

fn caller(number: u128) -> ConferencecallId {
    ConferencecallId(Uuid::from_u128(number))
}

impl Room {
    fn new(legs: u64) -> Room {
        let counters: Arc<Counters> = Arc::default();
        let queue = Arc::new(Queue::new(counters.clone()));
        let parts = TapParts { legs: LegSound::Own, ..TapParts::default() };
        let tap = Tap::new(TapId(1), parts, 1 << 16);
        let writer = tap.take_writer();
        let mut room = Room {
            ear: Ear::new(queue.clone(), None, counters, Rng::from_number(1)),
            queue,
            writer,
            tick: 1000,
        };
        let now = room.now();
        room.ear.order(now, SpeechOrder::Begin { transcribe: TRANSCRIBE, language: "en".to_owned(), tap });
        for leg in 1..=legs {
            room.name(leg);
        }
        room
    }

    fn name(&mut self, leg: u64) {
        let now = self.now();
        let conferencecall = caller(u128::from(leg));
        self.ear.order(now, SpeechOrder::Name { transcribe: TRANSCRIBE, leg: LegId(leg), conferencecall });
    }

    fn now(&self) -> Now {
        let at = self.tick * 20;
        Now { instant: Instant::from_millis(at), wall: Timestamp::from_micros(at as i64 * 1000 + 5) }
    }

    /// Frames in which these legs speak, each at its amplitude.
    fn speak(&mut self, frames: usize, legs: &[(u64, i16)]) {
        for _ in 0..frames {
            let writer = self.writer.as_mut().expect("open");
            writer.begin(self.tick, 8000);
            for &(leg, amplitude) in legs {
                writer.leg(LegId(leg), &[amplitude; 160].map(|a| a));
            }
            assert!(writer.commit());
            self.tick += 1;
            let now = self.now();
            self.ear.hear(now);
        }
    }

    fn mark(&mut self, mark: TapMark) {
        let writer = self.writer.as_mut().expect("open");
        writer.begin(self.tick, 8000);
        writer.mark(mark);
        assert!(writer.commit());
        self.tick += 1;
        let now = self.now();
        self.ear.hear(now);
    }

    fn end(&mut self) {
        let now = self.now();
        self.ear.order(now, SpeechOrder::End { transcribe: TRANSCRIBE });
        self.ear.hear(now);
    }

    fn next(&self) -> Option<Work> {
        self.queue.pop(Duration::ZERO).expect("not closed")
    }

    /// The whole utterances that wait: who, and frames.
    fn wholes(&self) -> Vec<(ConferencecallId, usize)> {
        let mut wholes = Vec::new();
        while let Some(work) = self.next() {
            if let Work::Whole(job) = work {
                wholes.push((job.conferencecall, job.utterance.samples.len() / 160));
            }
        }
        wholes
    }
}

#[test]
fn each_caller_is_cut_by_itself_though_they_speak_at_once() {
    let mut room = Room::new(2);
    room.speak(20, &[(1, 3000)]);
    room.speak(20, &[(1, 3000), (2, 4000)]);
    room.speak(40, &[(2, 4000)]);
    room.speak(40, &[]);
    assert_eq!(room.wholes(), [(caller(1), 45), (caller(2), 65)]);
}

#[test]
fn what_is_heard_in_part_and_whole_becomes_one_transcript_and_the_next_another() {
    let mut room = Room::new(1);
    let mut ids = Vec::new();
    for _ in 0..2 {
        room.speak(110, &[(1, 3000)]);
        let Some(Work::Partial(part)) = room.next() else { panic!("two seconds of it are shown") };
        room.speak(40, &[]);
        let Some(Work::Whole(whole)) = room.next() else { panic!("it is over") };
        assert_eq!((part.transcript, part.utterance.begins), (whole.transcript, whole.utterance.begins));
        ids.push(whole.transcript);
    }
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn an_utterance_has_the_rooms_time() {
    let mut room = Room::new(1);
    room.speak(10, &[(1, 3000)]);
    room.speak(40, &[]);
    let Some(Work::Whole(job)) = room.next() else { panic!("an utterance") };
    assert_eq!(job.utterance.begins, Timestamp::from_micros(20_000_005));
}

#[test]
fn one_who_leaves_is_heard_to_the_end_and_a_leg_without_a_name_is_not() {
    let mut room = Room::new(1);
    room.speak(30, &[(1, 3000), (7, 3000)]);
    room.mark(TapMark::Left(LegId(1)));
    room.mark(TapMark::Left(LegId(7)));
    assert_eq!(room.wholes(), [(caller(1), 30)]);
    room.speak(1, &[(7, 3000)]);
    room.name(7);
    room.speak(29, &[(7, 3000)]);
    room.speak(40, &[]);
    assert_eq!(room.wholes(), [(caller(7), 35)], "heard from its first sound, though named after it");
}

#[test]
fn lost_ticks_are_silence_and_time_does_not_shift() {
    let mut room = Room::new(1);
    room.speak(20, &[(1, 3000)]);
    room.tick += 10;
    room.speak(20, &[(1, 3000)]);
    room.speak(40, &[]);
    assert_eq!(room.wholes(), [(caller(1), 55)]);
}

#[test]
fn the_end_gives_everybodys_last_words_and_then_says_so() {
    let mut room = Room::new(2);
    room.speak(20, &[(1, 3000), (2, 3000)]);
    room.end();
    assert!(room.next().is_none(), "the tap is still open");
    room.writer = None;
    room.end();
    let works: Vec<char> = std::iter::from_fn(|| room.next())
        .map(|work| match work {
            Work::Whole(_) => 'w',
            Work::Early(_) => 'e',
            Work::Partial(_) => 'p',
            Work::Finish(_) => 'f',
        })
        .collect();
    assert_eq!(works, ['w', 'w', 'f']);
    assert!(room.ear.is_idle());
    room.end();
    assert!(matches!(room.next(), Some(Work::Finish(TRANSCRIBE))), "one that never began is over at once");
}

#[test]
fn a_tap_that_never_closes_is_not_awaited_for_ever() {
    let mut room = Room::new(1);
    room.speak(20, &[(1, 3000)]);
    room.end();
    room.tick += 251;
    let now = room.now();
    room.ear.hear(now);
    assert!(room.ear.is_idle());
}

#[test]
fn too_many_callers_are_counted_and_not_heard() {
    let most = CALLERS_MAX as u64;
    let mut room = Room::new(most + 3);
    for leg in 1..=most + 3 {
        room.speak(1, &[(leg, 3000)]);
    }
    assert_eq!(room.ear.desk.counters.callers_refused.load(Relaxed), 3);
    assert_eq!(room.ear.desk.counters.callers.load(Relaxed), most);
}
