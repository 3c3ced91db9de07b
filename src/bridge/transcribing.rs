//! Transcriptions: started and stopped by their owner, fed with each caller's own audio, told of as
//! the recogniser hears. One runs in a conference at a time.
//!
//! A stopped transcription stays `progressing` until the recogniser has said what it still had, so
//! that `done` means that every transcript is there.

use std::collections::BTreeMap;

use super::command::{Refusal, Reply};
use super::event::Change;
use super::media::LegState;
use super::resource::{ConferenceStatus, Transcribe, TranscribeDirection, TranscribeStatus, Transcript};
use super::rooms::OpenRoom;
use super::settings::{TRANSCRIBE_FINISH, TRANSCRIBES_PER_CONFERENCE_MAX, Transcriber};
use super::timers::Timer;
use super::{Bridge, Level, Output, as_json};
use crate::id::{ConferenceId, ConferencecallId, CustomerId, LegId, TapId, TranscribeId, TranscriptId};
use crate::plane::ShardCommand;
use crate::plane::tap::{LegSound, Tap, TapParts};
use crate::time::{Now, Timestamp};

/// Words of a transcription's tap (1 MiB): 60 speaking callers for a second, 10 for six.
const TAP_WORDS: usize = 1 << 18;

/// What the recogniser is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpeechOrder {
    /// A transcription begins.
    Begin {
        /// Which.
        transcribe: TranscribeId,
        /// The language that is spoken (BCP 47).
        language: String,
        /// Where the legs' audio comes from.
        tap: Tap,
    },
    /// The audio of this leg is this caller's. A leg that is not named is not heard.
    Name {
        /// The transcription it belongs to.
        transcribe: TranscribeId,
        /// The leg.
        leg: LegId,
        /// Who speaks.
        conferencecall: ConferencecallId,
    },
    /// The transcription ends, its tap is closed: answered by [`SpeechReport::Finished`] after its last
    /// [`SpeechReport::Heard`].
    End {
        /// Which.
        transcribe: TranscribeId,
    },
}

/// What the recogniser tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpeechReport {
    /// A caller said something, or is saying it.
    Heard {
        /// In this transcription.
        transcribe: TranscribeId,
        /// Of which transcript: what is heard of one utterance, first in part and then whole, has one id.
        transcript: TranscriptId,
        /// Who.
        conferencecall: ConferencecallId,
        /// What; empty only to take back what was heard in part.
        message: String,
        /// When it began to be said.
        begins: Timestamp,
        /// It goes on: a longer one follows.
        partial: bool,
    },
    /// Nothing more comes of this transcription.
    Finished {
        /// Which.
        transcribe: TranscribeId,
    },
    /// The recogniser cannot work, and why; nothing more comes of any transcription.
    Failed(String),
}

/// What a caller is saying: for whoever watches the conference live, and kept nowhere.
#[derive(Clone, Debug, PartialEq)]
pub struct PartialTranscript {
    /// The conference.
    pub conference: ConferenceId,
    /// The transcript that is yet to come, with what was said so far; an empty message takes it back.
    pub transcript: Transcript,
}

/// How a transcription is ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// It will be `done`.
    Done,
    /// The server stops; after its restart the transcription goes on.
    Paused,
}

/// A transcription that is not `done`.
#[derive(Debug)]
struct LiveTranscribe {
    resource: Transcribe,
    /// Its tap, until it is stopped.
    tap: Option<(OpenRoom, TapId)>,
    ending: Option<Ending>,
}

/// The owner of the transcriptions that are not `done`.
#[derive(Debug, Default)]
pub(super) struct Transcribes {
    live: BTreeMap<TranscribeId, LiveTranscribe>,
    pub(super) started_total: u64,
    pub(super) transcripts_total: u64,
    pub(super) partials_total: u64,
}

impl Transcribes {
    /// Whether nothing is awaited of the recogniser before the server may stop.
    pub(super) fn are_quiet(&self) -> bool {
        self.live.is_empty()
    }

    /// How many are not `done`.
    pub(super) fn live(&self) -> usize {
        self.live.len()
    }
}

impl Bridge {
    /// Starts the one transcription of a conference.
    pub(super) fn start_transcribe(
        &mut self,
        now: Now,
        whose: (CustomerId, ConferenceId),
        language: String,
        direction: TranscribeDirection,
    ) -> Result<Reply, Refusal> {
        if self.draining {
            return Err(Refusal::Draining);
        }
        let transcriber = self.settings.transcriber.clone();
        let conference = self.owned(whose)?;
        if conference.resource.status != ConferenceStatus::Progressing {
            return Err(Refusal::WrongStatus(conference.status_name()));
        }
        if !conference.resource.transcribe_id.is_nil() {
            return Err(Refusal::Conflict("the conference is being transcribed already"));
        }
        if conference.resource.transcribe_ids.len() >= TRANSCRIBES_PER_CONFERENCE_MAX {
            return Err(Refusal::Limit("transcriptions of one conference"));
        }
        let known = transcriber.knows(&language);
        let provider = match transcriber {
            Transcriber::Absent(why) => return Err(Refusal::NoTranscriber(why)),
            Transcriber::Ready { languages, .. } if !known => {
                return Err(Refusal::UnknownLanguage(languages));
            }
            Transcriber::Ready { provider, .. } => provider,
        };
        let (customer, id) = whose;
        let transcribe = TranscribeId::random(&mut self.rng);
        let conference = self.owned(whose)?;
        conference.resource.transcribe_id = transcribe.0;
        conference.resource.transcribe_ids.push(transcribe.0);
        conference.resource.tm_update = now.wall;
        self.tell_conference(now, id, "conference_updated");
        self.transcribes.started_total += 1;
        let resource = Transcribe {
            id: transcribe,
            customer_id: customer,
            reference_type: "conference".to_owned(),
            reference_id: id.0,
            status: TranscribeStatus::Progressing,
            language,
            direction,
            provider,
            tm_create: now.wall,
            tm_update: Timestamp::NEVER,
            tm_delete: Timestamp::NEVER,
        };
        self.tell_transcribe(now, &resource, "transcribe_created");
        self.run_transcribe(resource);
        self.reply_conference(id)
    }

    /// Stops the transcription that runs in a conference.
    pub(super) fn stop_transcribe(
        &mut self,
        now: Now,
        whose: (CustomerId, ConferenceId),
    ) -> Result<Reply, Refusal> {
        let running = self.owned(whose)?.resource.transcribe_id;
        if running.is_nil() {
            return Err(Refusal::Conflict("the conference is not being transcribed"));
        }
        self.stop_hearing(now, TranscribeId(running), Ending::Done);
        self.reply_conference(whose.1)
    }

    /// Stops a transcription by its own id.
    pub(super) fn end_transcribe_by_owner(
        &mut self,
        now: Now,
        (customer, id): (CustomerId, TranscribeId),
    ) -> Result<Reply, Refusal> {
        let of = |transcribes: &Transcribes| {
            let live = transcribes.live.get(&id).filter(|live| live.resource.customer_id == customer);
            live.map(|live| live.resource.clone()).ok_or(Refusal::NotFound)
        };
        of(&self.transcribes)?;
        self.stop_hearing(now, id, Ending::Done);
        Ok(Reply::Transcribe(Box::new(of(&self.transcribes)?)))
    }

    pub(super) fn read_transcribes(&self, customer: CustomerId, ids: &[TranscribeId]) -> Reply {
        let held = ids.iter().filter_map(|id| self.transcribes.live.get(id)).map(|live| &live.resource);
        Reply::Transcribes(held.filter(|resource| resource.customer_id == customer).cloned().collect())
    }

    /// The conference is ending: what its callers still say is not heard.
    pub(super) fn end_transcribe_of(&mut self, now: Now, conference: ConferenceId) {
        let running = self.conferences.get(&conference).map(|of| of.resource.transcribe_id);
        if let Some(id) = running.filter(|id| !id.is_nil()) {
            self.stop_hearing(now, TranscribeId(id), Ending::Done);
        }
    }

    /// The server is stopping: what was said is still told; after a restart transcriptions go on.
    pub(super) fn pause_transcribes(&mut self, now: Now) {
        let running: Vec<TranscribeId> = self.transcribes.live.keys().copied().collect();
        for id in running {
            self.stop_hearing(now, id, Ending::Paused);
        }
    }

    /// Tells the transcription of a conference whose leg this is, before it is added.
    pub(super) fn name_leg_to_transcribe(
        &mut self,
        conference: ConferenceId,
        leg: LegId,
        conferencecall: ConferencecallId,
    ) {
        let running = self.conferences.get(&conference).map(|of| of.resource.transcribe_id);
        if let Some(id) = running.filter(|id| !id.is_nil()) {
            let transcribe = TranscribeId(id);
            self.journal.push(Output::Speech(SpeechOrder::Name { transcribe, leg, conferencecall }));
        }
    }

    /// What the recogniser says.
    pub(super) fn handle_speech(&mut self, now: Now, report: SpeechReport) {
        match report {
            SpeechReport::Heard { transcribe, transcript: id, conferencecall, message, begins, partial } => {
                let Some(live) = self.transcribes.live.get(&transcribe) else { return };
                let conference = ConferenceId(live.resource.reference_id);
                let transcript = Transcript {
                    id,
                    customer_id: live.resource.customer_id,
                    transcribe_id: transcribe,
                    direction: "in".to_owned(),
                    message,
                    conferencecall_id: conferencecall,
                    tm_transcript: begins,
                    tm_create: now.wall,
                };
                if partial {
                    self.transcribes.partials_total += 1;
                    self.journal
                        .push(Output::Partial(Box::new(PartialTranscript { conference, transcript })));
                    return;
                }
                self.transcribes.transcripts_total += 1;
                let data = as_json(&transcript);
                self.journal.push(Output::Persist(Change::Transcript(Box::new(transcript))));
                self.tell(now, conference, "transcript_created", data);
            }
            SpeechReport::Finished { transcribe } => self.finish_transcribe(now, transcribe),
            SpeechReport::Failed(why) => self.fail_transcribes(now, why),
        }
    }

    /// The recogniser has said all it had of a stopped transcription, or had its time.
    pub(super) fn finish_transcribe(&mut self, now: Now, id: TranscribeId) {
        let Some(ending) = self.transcribes.live.get(&id).and_then(|live| live.ending) else { return };
        let Some(LiveTranscribe { mut resource, .. }) = self.transcribes.live.remove(&id) else { return };
        self.timers.cancel(Timer::Transcribe(id));
        if ending == Ending::Done {
            resource.status = TranscribeStatus::Done;
            resource.tm_update = now.wall;
            self.tell_transcribe(now, &resource, "transcribe_done");
        }
    }

    /// Takes over the transcriptions that the store kept as `progressing`, after
    /// [`Bridge::restore`]: those of conferences that go on, go on.
    pub fn restore_transcribes(&mut self, now: Now, transcribes: Vec<Transcribe>) {
        let ready = matches!(self.settings.transcriber, Transcriber::Ready { .. });
        let mut running = Vec::new();
        for mut resource in transcribes {
            let conference = self.conferences.get(&ConferenceId(resource.reference_id));
            let runs = conference.is_some_and(|of| {
                of.resource.status == ConferenceStatus::Progressing
                    && of.resource.transcribe_id == resource.id.0
            });
            if ready && runs {
                running.push(resource.id.0);
                self.run_transcribe(resource);
            } else {
                resource.status = TranscribeStatus::Done;
                resource.tm_update = now.wall;
                self.tell_transcribe(now, &resource, "transcribe_done");
            }
        }
        let stale: Vec<ConferenceId> = self
            .conferences
            .values()
            .filter(|of| !of.resource.transcribe_id.is_nil() && !running.contains(&of.resource.transcribe_id))
            .map(|of| of.resource.id)
            .collect();
        for id in stale {
            self.clear_transcribe_of(now, id);
        }
        self.keep_touched();
    }

    /// A transcription runs from now on: the room gets a tap, and everybody who is in is named.
    fn run_transcribe(&mut self, resource: Transcribe) {
        let (transcribe, conference) = (resource.id, ConferenceId(resource.reference_id));
        let max_speakers = self.settings.max_speakers;
        let Some(of) = self.conferences.get_mut(&conference) else { return };
        let room = of.open_room(&mut self.shards, &mut self.journal, max_speakers);
        let tap_id = self.shards.add_tap(room);
        let room = *room;
        let parts = TapParts { mix: false, sum: false, legs: LegSound::Own };
        let tap = Tap::new(tap_id, parts, TAP_WORDS);
        let language = resource.language.clone();
        self.journal.push(Output::Speech(SpeechOrder::Begin { transcribe, language, tap: tap.clone() }));
        for call in self.calls.iter().filter(|call| call.resource.conference_id == conference) {
            if let LegState::Active(leg) = call.leg {
                let (leg, conferencecall) = (leg.id, call.resource.id);
                self.journal.push(Output::Speech(SpeechOrder::Name { transcribe, leg, conferencecall }));
            }
        }
        let command = ShardCommand::StartTap { room: room.room, tap };
        self.journal.push(Output::Shard { shard: room.shard, command });
        let live = LiveTranscribe { resource, tap: Some((room, tap_id)), ending: None };
        self.transcribes.live.insert(transcribe, live);
    }

    /// Nobody is heard any more in this transcription; what was said is still awaited.
    fn stop_hearing(&mut self, now: Now, id: TranscribeId, ending: Ending) {
        let Some(live) = self.transcribes.live.get_mut(&id) else { return };
        let conference = ConferenceId(live.resource.reference_id);
        if live.ending.is_none() || ending == Ending::Done {
            live.ending = Some(ending);
        }
        if let Some((room, tap)) = live.tap.take() {
            let command = ShardCommand::StopTap { room: room.room, tap };
            self.journal.push(Output::Shard { shard: room.shard, command });
            self.journal.push(Output::Speech(SpeechOrder::End { transcribe: id }));
            self.timers.set(Timer::Transcribe(id), now.instant + TRANSCRIBE_FINISH);
            if let Some(room) = self.conferences.get_mut(&conference).and_then(|of| of.room.as_mut()) {
                self.shards.remove_tap(room);
            }
            self.close_room_if_unused(conference);
        }
        if ending == Ending::Done {
            self.clear_transcribe_of(now, conference);
        }
    }

    /// The recogniser cannot work: what runs is over, and nothing new is begun.
    fn fail_transcribes(&mut self, now: Now, why: String) {
        if matches!(self.settings.transcriber, Transcriber::Ready { .. }) {
            let text = format!("the recogniser has failed, no transcription goes on: {why}");
            self.journal.note(Level::Error, ConferenceId::NIL, text);
        }
        self.settings.transcriber = Transcriber::Absent(why);
        let running: Vec<TranscribeId> = self.transcribes.live.keys().copied().collect();
        for id in running {
            self.stop_hearing(now, id, Ending::Done);
            self.finish_transcribe(now, id);
        }
    }

    /// No transcription runs in the conference any more.
    fn clear_transcribe_of(&mut self, now: Now, conference: ConferenceId) {
        let Some(of) = self.conferences.get_mut(&conference) else { return };
        if !of.resource.transcribe_id.is_nil() {
            of.resource.transcribe_id = uuid::Uuid::nil();
            of.resource.tm_update = now.wall;
            self.tell_conference(now, conference, "conference_updated");
        }
    }

    /// Keeps a transcription as it is now, and tells of it.
    fn tell_transcribe(&mut self, now: Now, resource: &Transcribe, r#type: &str) {
        self.journal.push(Output::Persist(Change::Transcribe(Box::new(resource.clone()))));
        self.tell(now, ConferenceId(resource.reference_id), r#type, as_json(resource));
    }
}
