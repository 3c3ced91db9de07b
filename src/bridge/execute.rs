//! What customers may ask. Another customer's resource is as if it did not exist.

use super::command::{Command, ConferenceChange, NewConference, Refusal, Reply};
use super::conference::LiveConference;
use super::resource::ConferenceStatus;
use super::{Bridge, Level};
use crate::id::{ConferenceId, ConferencecallId, CustomerId};
use crate::plane::PortSource;
use crate::sip::Cause;
use crate::time::Now;

impl Bridge {
    /// Does what is asked and answers.
    pub(super) fn execute(&mut self, now: Now, command: Command, ports: &mut dyn PortSource) -> Reply {
        let done = match command {
            Command::CreateConference { customer, new } => self.create(now, customer, new, ports),
            Command::UpdateConference { customer, id, change } => {
                self.update(now, (customer, id), change, ports)
            }
            Command::DeleteConference { customer, id } => self.delete(now, (customer, id), ports),
            Command::RegenerateDirectHash { customer, id } => self.regenerate(now, (customer, id)),
            Command::EjectConferencecall { customer, id } => self.eject_by_owner(now, (customer, id), ports),
            Command::CreateFlow { customer, new } => self.create_flow(now, customer, new),
            Command::UpdateFlow { customer, id, change } => self.update_flow(now, (customer, id), change),
            Command::DeleteFlow { customer, id } => self.delete_flow(now, (customer, id)),
            Command::ReadFlows { customer, ids } => Ok(self.read_flows(customer, &ids)),
            Command::ReadActiveflows { customer, ids } => Ok(self.read_activeflows(customer, &ids)),
            Command::ReadConferences { customer, ids } => Ok(self.read_conferences(customer, &ids)),
            Command::ReadConferencecalls { customer, ids } => Ok(self.read_conferencecalls(customer, &ids)),
            Command::StartRecording { customer, id, new } => self.start_recording(now, (customer, id), new),
            Command::StopRecording { customer, id } => self.stop_recording(now, (customer, id)),
            Command::PauseRecording { customer, id, pause } => {
                self.pause_recording(now, (customer, id), pause)
            }
            Command::OpenStream { customer, id } => self.open_stream((customer, id)),
            Command::CloseStream { customer, id, leg } => self.close_stream((customer, id), leg),
            Command::ReadRecordings { customer, ids } => Ok(self.read_recordings(customer, &ids)),
            Command::StartTranscribe { customer, id, language, direction } => {
                self.start_transcribe(now, (customer, id), language, direction)
            }
            Command::StopTranscribe { customer, id } => self.stop_transcribe(now, (customer, id)),
            Command::EndTranscribe { customer, id } => self.end_transcribe_by_owner(now, (customer, id)),
            Command::ReadTranscribes { customer, ids } => Ok(self.read_transcribes(customer, &ids)),
        };
        done.unwrap_or_else(Reply::Refused)
    }

    fn create(
        &mut self,
        now: Now,
        customer: CustomerId,
        new: NewConference,
        ports: &mut dyn PortSource,
    ) -> Result<Reply, Refusal> {
        if self.draining {
            return Err(Refusal::Draining);
        }
        let id = new.id.unwrap_or_else(|| ConferenceId::random(&mut self.rng));
        if self.conferences.contains_key(&id) {
            return Err(Refusal::IdTaken);
        }
        self.check_flows(customer, Some(new.pre_flow_id), Some(new.post_flow_id))?;
        if self.tally.live_conferences() >= self.settings.max_conferences {
            return Err(Refusal::Limit("conferences"));
        }
        let direct_access = new.direct_access;
        let mut conference = LiveConference::new(id, customer, new, now.wall);
        if direct_access {
            conference.resource.direct_hash = self.hashes.make(id, &mut self.rng);
            conference.dialled_by.clone_from(&conference.resource.direct_hash);
        }
        self.tally.conferences_total += 1;
        self.insert_conference(conference);
        self.tell_conference(now, id, "conference_created");
        self.begin(now, id, ports);
        self.reply_conference(id)
    }

    /// `starting` → `progressing`.
    pub(super) fn begin(&mut self, now: Now, id: ConferenceId, ports: &mut dyn PortSource) {
        let Some(conference) = self.conferences.get_mut(&id) else { return };
        conference.begin();
        self.tally.move_conference(Some(ConferenceStatus::Starting), Some(ConferenceStatus::Progressing));
        self.tell_conference(now, id, "conference_updated");
        self.schedule_end(now, id, ports);
    }

    /// Takes a conference in.
    pub(super) fn insert_conference(&mut self, conference: LiveConference) {
        self.tally.move_conference(None, Some(conference.resource.status));
        self.conferences.insert(conference.resource.id, conference);
    }

    fn update(
        &mut self,
        now: Now,
        whose: (CustomerId, ConferenceId),
        change: ConferenceChange,
        ports: &mut dyn PortSource,
    ) -> Result<Reply, Refusal> {
        let id = self.owned_live(whose)?;
        if change == ConferenceChange::default() {
            return self.reply_conference(id);
        }
        self.check_flows(whose.0, change.pre_flow_id, change.post_flow_id)?;
        let conference = self.conferences.get_mut(&id).ok_or(Refusal::NotFound)?;
        let has_hash = !conference.resource.direct_hash.is_empty();
        let direct_access = change.direct_access.unwrap_or(has_hash);
        conference.change(change, now.wall);
        match (has_hash, direct_access) {
            (false, true) => self.make_hash(id),
            (true, false) => self.drop_hash(id),
            _ => {}
        }
        self.tell_conference(now, id, "conference_updated");
        self.schedule_end(now, id, ports);
        self.reply_conference(id)
    }

    fn delete(
        &mut self,
        now: Now,
        whose: (CustomerId, ConferenceId),
        ports: &mut dyn PortSource,
    ) -> Result<Reply, Refusal> {
        let (customer, id) = whose;
        // Also when only the store still knows the conference: the caller deletes it there.
        self.hashes.free(customer, id);
        let conference = self.owned(whose)?;
        if conference.is_deleted() {
            return self.reply_conference(id);
        }
        conference.delete(now.wall);
        if conference.is_live() {
            self.begin_end_as(now, id, Cause::conference_ended(), "conference_deleted", ports);
        } else {
            self.tell_conference(now, id, "conference_deleted");
        }
        self.reply_conference(id)
    }

    fn regenerate(&mut self, now: Now, whose: (CustomerId, ConferenceId)) -> Result<Reply, Refusal> {
        let id = self.owned_live(whose)?;
        self.drop_hash(id);
        self.make_hash(id);
        if let Some(conference) = self.conferences.get_mut(&id) {
            conference.resource.tm_update = now.wall;
        }
        self.tell_conference(now, id, "conference_updated");
        self.reply_conference(id)
    }

    fn make_hash(&mut self, id: ConferenceId) {
        if let Some(conference) = self.conferences.get_mut(&id) {
            conference.resource.direct_hash = self.hashes.make(id, &mut self.rng);
            conference.dialled_by.clone_from(&conference.resource.direct_hash);
        }
    }

    fn drop_hash(&mut self, id: ConferenceId) {
        if let Some(conference) = self.conferences.get_mut(&id) {
            self.hashes.kill(&std::mem::take(&mut conference.dialled_by));
            conference.resource.direct_hash.clear();
        }
    }

    fn eject_by_owner(
        &mut self,
        now: Now,
        (customer, id): (CustomerId, ConferencecallId),
        ports: &mut dyn PortSource,
    ) -> Result<Reply, Refusal> {
        let call = self.calls.get_mut(id).filter(|call| call.resource.customer_id == customer);
        let call = call.ok_or(Refusal::NotFound)?;
        if call.is_in() {
            call.resource.tm_delete = now.wall;
            self.note_of(id, Level::Info, "ejected by the conference's owner".to_owned());
            self.eject(now, id, Cause::ejected(), ports);
        }
        let call = self.calls.get(&id).ok_or(Refusal::NotFound)?;
        Ok(Reply::Conferencecall(Box::new(call.resource.clone())))
    }

    fn read_conferences(&self, customer: CustomerId, ids: &[ConferenceId]) -> Reply {
        let held =
            ids.iter().filter_map(|id| self.conferences.get(id)).map(|conference| &conference.resource);
        Reply::Conferences(held.filter(|resource| resource.customer_id == customer).cloned().collect())
    }

    fn read_conferencecalls(&self, customer: CustomerId, ids: &[ConferencecallId]) -> Reply {
        let held = ids.iter().filter_map(|id| self.calls.get(id)).map(|call| &call.resource);
        Reply::Conferencecalls(held.filter(|resource| resource.customer_id == customer).cloned().collect())
    }

    /// The customer's conference.
    pub(super) fn owned(
        &mut self,
        (customer, id): (CustomerId, ConferenceId),
    ) -> Result<&mut LiveConference, Refusal> {
        let conference = self.conferences.get_mut(&id).filter(|of| of.resource.customer_id == customer);
        conference.ok_or(Refusal::NotFound)
    }

    /// The customer's conference, if it has neither ended nor begun to end.
    fn owned_live(&mut self, whose: (CustomerId, ConferenceId)) -> Result<ConferenceId, Refusal> {
        let conference = self.owned(whose)?;
        if conference.is_live() { Ok(whose.1) } else { Err(Refusal::WrongStatus(conference.status_name())) }
    }

    pub(super) fn reply_conference(&self, id: ConferenceId) -> Result<Reply, Refusal> {
        let conference = self.conferences.get(&id).ok_or(Refusal::NotFound)?;
        Ok(Reply::Conference(Box::new(conference.resource.clone())))
    }
}
