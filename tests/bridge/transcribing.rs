//! Transcriptions: who is heard, what is told, and how they end.

use std::time::Duration;

use confab::bridge::command::{Command, Refusal, Reply};
use confab::bridge::resource::{
    Conference, ConferenceType, Transcribe, TranscribeDirection, TranscribeStatus, Transcript,
};
use confab::bridge::{
    Settings, SpeechOrder, SpeechReport, TRANSCRIBE_FINISH, TRANSCRIBES_PER_CONFERENCE_MAX, Transcriber,
};
use confab::id::{ConferenceId, ConferencecallId, TranscribeId, TranscriptId};
use confab::time::Timestamp;

use crate::scenes::{SOON, filled, member, uri_of};
use crate::support::{PhoneId, Recorder, Sim};
use crate::truth::{assert_events_tell_all, assert_nothing_left};

fn sim(seed: u64) -> Sim {
    let transcriber = Transcriber::Ready { provider: "test".to_owned(), languages: vec!["en".to_owned()] };
    Sim::with(seed, Settings { transcriber, ..Settings::default() })
}

fn start(sim: &mut Sim, id: ConferenceId, language: &str) -> Reply {
    let (customer, language) = (sim.customer, language.to_owned());
    sim.command(Command::StartTranscribe { customer, id, language, direction: TranscribeDirection::Both })
}

fn stop(sim: &mut Sim, id: ConferenceId) -> Reply {
    let customer = sim.customer;
    sim.command(Command::StopTranscribe { customer, id })
}

fn refused(reply: Reply) -> Refusal {
    match reply {
        Reply::Refused(refusal) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

/// A conference that is being transcribed, with so many callers.
fn transcribed(sim: &mut Sim, callers: usize) -> (Conference, Vec<PhoneId>, TranscribeId) {
    let (conference, phones) = filled(sim, ConferenceType::Conference, callers);
    let Reply::Conference(conference) = start(sim, conference.id, "en-US") else { panic!("it starts") };
    let id = TranscribeId(conference.transcribe_id);
    (*conference, phones, id)
}

/// What the store has of a transcription.
fn kept(sim: &Sim, id: TranscribeId) -> Transcribe {
    sim.kept.transcribes[&id].clone()
}

/// Whom the recogniser was told of.
fn named(sim: &Sim) -> Vec<ConferencecallId> {
    let name = |order: &SpeechOrder| match order {
        SpeechOrder::Name { conferencecall, .. } => Some(*conferencecall),
        _ => None,
    };
    sim.speech.iter().filter_map(name).collect()
}

fn heard(transcribe: TranscribeId, conferencecall: ConferencecallId, partial: bool) -> SpeechReport {
    let (message, begins) = ("hello".to_owned(), Timestamp::from_micros(7));
    let transcript = TranscriptId(uuid::Uuid::from_u128(5));
    SpeechReport::Heard { transcribe, transcript, conferencecall, message, begins, partial }
}

#[test]
fn everybody_is_named_whoever_is_in_and_whoever_comes() {
    let mut sim = sim(1);
    let (conference, _, id) = transcribed(&mut sim, 2);
    assert_eq!(conference.transcribe_ids, [id.0]);
    assert_eq!(kept(&sim, id).status, TranscribeStatus::Progressing);
    assert!(matches!(&sim.speech[0], SpeechOrder::Begin { language, .. } if language == "en-US"));
    assert_eq!(sim.plane.taps.len(), 1);
    let mut both = vec![member(&mut sim, &conference, 0), member(&mut sim, &conference, 1)];
    both.sort_unstable();
    assert_eq!(named(&sim), both);
    sim.dial(&uri_of(&conference));
    sim.run(SOON);
    let third = member(&mut sim, &conference, 2);
    assert_eq!(named(&sim).last(), Some(&third));
}

#[test]
fn what_is_said_is_kept_and_told_and_what_is_being_said_only_shown() {
    let mut sim = sim(2);
    let (conference, _, id) = transcribed(&mut sim, 1);
    let caller = member(&mut sim, &conference, 0);
    sim.speak(heard(id, caller, true));
    assert!(sim.kept.transcripts.is_empty());
    assert!(sim.kept.events[&conference.id].iter().all(|event| !event.r#type.starts_with("transcript_")));
    let shown = sim.partials[0].clone();
    assert_eq!((shown.conference, shown.transcript.conferencecall_id), (conference.id, caller));
    sim.run(SOON);
    sim.speak(heard(id, caller, false));
    let transcript = &sim.kept.transcripts[0];
    assert_eq!(Transcript { tm_create: transcript.tm_create, ..shown.transcript }, *transcript);
    assert_eq!((transcript.conferencecall_id, transcript.transcribe_id), (caller, id));
    assert_eq!((transcript.message.as_str(), transcript.tm_transcript), ("hello", Timestamp::from_micros(7)));
    let event = sim.kept.events[&conference.id].last().expect("told");
    assert_eq!((event.r#type.as_str(), &event.data["message"]), ("transcript_created", &"hello".into()));
}

#[test]
fn one_runs_at_a_time_and_is_done_when_its_last_words_are_there() {
    let mut sim = sim(3);
    let (conference, _, id) = transcribed(&mut sim, 1);
    let caller = member(&mut sim, &conference, 0);
    assert!(matches!(refused(start(&mut sim, conference.id, "en")), Refusal::Conflict(_)));
    let Reply::Conference(after) = stop(&mut sim, conference.id) else { panic!("it stops") };
    assert!(after.transcribe_id.is_nil());
    assert_eq!(after.transcribe_ids, [id.0]);
    assert!(sim.plane.taps.is_empty());
    assert!(matches!(refused(stop(&mut sim, conference.id)), Refusal::Conflict(_)));
    assert_eq!(kept(&sim, id).status, TranscribeStatus::Progressing);
    sim.speak(heard(id, caller, false));
    sim.speak(SpeechReport::Finished { transcribe: id });
    assert_eq!(kept(&sim, id).status, TranscribeStatus::Done);
    sim.speak(heard(id, caller, false));
    assert_eq!(sim.kept.transcripts.len(), 1, "done means that nothing follows");
    let told = sim.kept.told(conference.id);
    let told: Vec<&str> = told.into_iter().filter(|kind| kind.starts_with("transcri")).collect();
    assert_eq!(told, ["transcribe_created", "transcript_created", "transcribe_done"]);
    assert!(matches!(start(&mut sim, conference.id, "en"), Reply::Conference(_)), "another may begin");
}

#[test]
fn a_recogniser_that_does_not_answer_is_awaited_no_longer_than_its_time() {
    let mut sim = sim(4);
    let (conference, _, id) = transcribed(&mut sim, 1);
    stop(&mut sim, conference.id);
    sim.run(TRANSCRIBE_FINISH - Duration::from_millis(1));
    assert_eq!(kept(&sim, id).status, TranscribeStatus::Progressing);
    sim.run(Duration::from_millis(1));
    assert_eq!(kept(&sim, id).status, TranscribeStatus::Done);
}

#[test]
fn it_is_stopped_by_its_own_id_too_and_by_its_owner_only() {
    let mut sim = sim(5);
    let (_, _, id) = transcribed(&mut sim, 0);
    let customer = confab::id::CustomerId::random(&mut sim.rng);
    assert_eq!(refused(sim.command(Command::EndTranscribe { customer, id })), Refusal::NotFound);
    assert_eq!(sim.command(Command::ReadTranscribes { customer, ids: vec![id] }), Reply::Transcribes(vec![]));
    let customer = sim.customer;
    for _ in 0..2 {
        let reply = sim.command(Command::EndTranscribe { customer, id });
        assert!(matches!(reply, Reply::Transcribe(ref of) if of.id == id), "{reply:?}");
    }
    sim.speak(SpeechReport::Finished { transcribe: id });
    assert_eq!(refused(sim.command(Command::EndTranscribe { customer, id })), Refusal::NotFound);
}

#[test]
fn what_cannot_be_transcribed_is_refused_with_what_would_help() {
    let mut sim = sim(6);
    let conference = sim.create(ConferenceType::Conference);
    let known = Refusal::UnknownLanguage(vec!["en".to_owned()]);
    assert_eq!(refused(start(&mut sim, conference.id, "de-DE")), known);
    assert!(known.to_string().contains("it knows en"));
    sim.delete(conference.id);
    assert!(matches!(refused(start(&mut sim, conference.id, "en")), Refusal::WrongStatus(_)));
    let mut without = Sim::new(6);
    let conference = without.create(ConferenceType::Conference);
    let refusal = refused(start(&mut without, conference.id, "en"));
    assert!(matches!(refusal, Refusal::NoTranscriber(_)));
}

#[test]
fn a_conference_has_a_limit_of_transcriptions() {
    let mut sim = sim(7);
    let conference = sim.create(ConferenceType::Conference);
    for _ in 0..TRANSCRIBES_PER_CONFERENCE_MAX {
        let Reply::Conference(of) = start(&mut sim, conference.id, "EN-gb") else { panic!("it starts") };
        stop(&mut sim, conference.id);
        sim.speak(SpeechReport::Finished { transcribe: TranscribeId(of.transcribe_id) });
    }
    assert!(matches!(refused(start(&mut sim, conference.id, "en")), Refusal::Limit(_)));
}

#[test]
fn a_recogniser_that_fails_ends_all_and_says_why_from_then_on() {
    let mut sim = sim(8);
    let (conference, _, id) = transcribed(&mut sim, 1);
    sim.speak(SpeechReport::Failed("the file is damaged".to_owned()));
    assert_eq!(kept(&sim, id).status, TranscribeStatus::Done);
    assert!(sim.conference(conference.id).expect("it lives").transcribe_id.is_nil());
    let refusal = refused(start(&mut sim, conference.id, "en"));
    assert_eq!(refusal, Refusal::NoTranscriber("the file is damaged".to_owned()));
}

#[test]
fn the_end_of_a_conference_ends_its_transcription_and_leaves_nothing() {
    let mut sim = sim(9);
    let (conference, _, id) = transcribed(&mut sim, 2);
    let caller = member(&mut sim, &conference, 0);
    sim.delete(conference.id);
    sim.run(SOON);
    sim.speak(heard(id, caller, false));
    sim.speak(SpeechReport::Finished { transcribe: id });
    assert_eq!(sim.kept.told(conference.id).last(), Some(&"transcribe_done"));
    assert_eq!(sim.kept.transcripts.len(), 1, "what was said at the end is there");
    sim.run(crate::scenes::LATER);
    assert_nothing_left(&sim);
    assert_events_tell_all(&sim);
}

#[test]
fn it_goes_on_after_a_restart_and_whoever_comes_is_heard() {
    let mut sim = sim(10);
    let (conference, _, id) = transcribed(&mut sim, 0);
    sim.speech.clear();
    sim.restart(Duration::from_secs(3), Recorder::default());
    assert_eq!(sim.conference(conference.id).expect("it lives").transcribe_id, id.0);
    assert!(matches!(&sim.speech[..], [SpeechOrder::Begin { transcribe, .. }] if *transcribe == id));
    sim.dial(&uri_of(&conference));
    sim.run(SOON);
    assert_eq!(named(&sim).len(), 1);
}

#[test]
fn a_stop_of_the_server_waits_for_last_words_and_the_transcription_goes_on_later() {
    let mut sim = sim(11);
    let (conference, _, id) = transcribed(&mut sim, 1);
    let caller = member(&mut sim, &conference, 0);
    sim.drain();
    sim.run(SOON);
    assert!(!sim.drained);
    sim.speak(heard(id, caller, false));
    sim.speak(SpeechReport::Finished { transcribe: id });
    sim.run(crate::scenes::LATER);
    assert!(sim.drained);
    assert_eq!(sim.kept.transcripts.len(), 1);
    assert_eq!(kept(&sim, id).status, TranscribeStatus::Progressing);
    sim.drained = false;
    sim.restart(Duration::from_secs(1), Recorder::default());
    assert_eq!(sim.conference(conference.id).expect("it lives").transcribe_id, id.0);
}
