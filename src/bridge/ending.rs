//! How a conference ends, by its owner, its timeout or the rule of a `connect`; and how the server
//! does.

use super::resource::ConferenceStatus;
use super::timers::Timer;
use super::{Bridge, Level};
use crate::id::{ConferenceId, ConferencecallId};
use crate::plane::PortSource;
use crate::sip::Cause;
use crate::time::Now;

impl Bridge {
    /// Sets the timer of a live conference's timeout. Ends it now when that is past.
    pub(super) fn schedule_end(&mut self, now: Now, id: ConferenceId, ports: &mut dyn PortSource) {
        let Some(conference) = self.conferences.get(&id).filter(|conference| conference.is_live()) else {
            return;
        };
        let timer = Timer::Conference(id);
        match conference.ends_at() {
            None => self.timers.cancel(timer),
            Some(at) if at <= now.wall => self.time_out(now, id, ports),
            Some(at) => self.timers.set(timer, now.instant + at.since(now.wall)),
        }
    }

    /// A conference's timer: its timeout, or the end of the wait for its callers to go.
    pub(super) fn conference_timer(&mut self, now: Now, id: ConferenceId, ports: &mut dyn PortSource) {
        let Some(conference) = self.conferences.get(&id) else { return };
        match conference.resource.status {
            ConferenceStatus::Starting | ConferenceStatus::Progressing => self.time_out(now, id, ports),
            ConferenceStatus::Terminating => self.force_out(now, id),
            ConferenceStatus::Terminated => {}
        }
    }

    fn time_out(&mut self, now: Now, id: ConferenceId, ports: &mut dyn PortSource) {
        self.journal.note(Level::Info, id, "the conference's timeout has come".to_owned());
        self.begin_end(now, id, Cause::conference_ended(), ports);
    }

    /// → `terminating`, told as an update.
    pub(super) fn begin_end(&mut self, now: Now, id: ConferenceId, cause: Cause, ports: &mut dyn PortSource) {
        self.begin_end_as(now, id, cause, "conference_updated", ports);
    }

    /// → `terminating`: nobody new gets in, and everybody in is sent off. This is where recordings
    /// will stop and `post_flow_id` will run, before the BYEs. A transcription hears no more.
    pub(super) fn begin_end_as(
        &mut self,
        now: Now,
        id: ConferenceId,
        cause: Cause,
        r#type: &str,
        ports: &mut dyn PortSource,
    ) {
        let Some(conference) = self.conferences.get_mut(&id).filter(|conference| conference.is_live()) else {
            return;
        };
        self.tally.move_conference(Some(conference.resource.status), Some(ConferenceStatus::Terminating));
        conference.begin_end(now.wall);
        let present: Vec<ConferencecallId> = conference.present.iter().copied().collect();
        self.timers.set(Timer::Conference(id), now.instant + self.settings.drain_timeout);
        self.tell_conference(now, id, r#type);
        self.journal.note(Level::Info, id, format!("terminating, {} in: {}", present.len(), cause.text));
        for call in present {
            self.eject(now, call, cause.clone(), ports);
        }
        self.end_transcribe_of(now, id);
        self.end_if_empty(now, id);
    }

    /// Whoever is still there when the wait is over is gone.
    fn force_out(&mut self, now: Now, id: ConferenceId) {
        let present =
            self.conferences.get(&id).map(|conference| conference.present.clone()).unwrap_or_default();
        for call in present {
            self.give_up_leg(now, call);
        }
        self.end_if_empty(now, id);
    }

    /// `terminating` → `terminated`, once nobody is left. It stays readable for a while.
    pub(super) fn end_if_empty(&mut self, now: Now, id: ConferenceId) {
        let Some(conference) = self.conferences.get_mut(&id) else { return };
        if conference.resource.status != ConferenceStatus::Terminating || !conference.present.is_empty() {
            return;
        }
        self.tally.move_conference(Some(ConferenceStatus::Terminating), Some(ConferenceStatus::Terminated));
        conference.end(now.wall);
        let hash = std::mem::take(&mut conference.dialled_by);
        if conference.is_deleted() {
            self.hashes.kill(&hash);
        } else {
            self.hashes.retire(&hash, conference.resource.customer_id, id);
        }
        self.timers.cancel(Timer::Conference(id));
        self.tell_conference(now, id, "conference_updated");
        self.journal.note(Level::Info, id, "terminated".to_owned());
        if let Some(oldest) = self.ended.push(now.instant, id) {
            self.forget_conference(oldest);
        }
    }

    /// Forgets an ended conference; the store knows it.
    pub(super) fn forget_conference(&mut self, id: ConferenceId) {
        // What this very input changed of it is yet to be kept.
        self.keep_touched();
        if self.conferences.remove(&id).is_some() {
            self.tally.move_conference(Some(ConferenceStatus::Terminated), None);
        }
    }

    /// The server stops: no new calls, BYE to all. Conferences live on in the store.
    pub(super) fn begin_drain(&mut self, now: Now, ports: &mut dyn PortSource) {
        if self.draining {
            return;
        }
        self.draining = true;
        self.drain_due = true;
        self.sip.shed(Some(self.settings.retry_after_s));
        self.timers.set(Timer::Drain, now.instant + self.settings.drain_timeout);
        let open: Vec<ConferencecallId> =
            self.calls.iter().filter(|call| call.is_in()).map(|call| call.resource.id).collect();
        self.journal.note(
            Level::Info,
            ConferenceId::NIL,
            format!("stopping: {} calls are being ended", open.len()),
        );
        for id in open {
            self.eject(now, id, Cause::shutdown(), ports);
        }
        self.pause_transcribes(now);
    }

    /// The drain has taken too long: whoever is left is gone.
    pub(super) fn force_drain(&mut self, now: Now) {
        let open: Vec<ConferencecallId> = self.calls.iter().map(|call| call.resource.id).collect();
        for id in open {
            self.give_up_leg(now, id);
        }
        self.report_drained();
    }

    /// The drain is done once every call is gone and every BYE is answered.
    pub(super) fn finish_drain(&mut self) {
        if self.draining && self.calls.is_quiet() && self.sip.calls() == 0 && self.transcribes.are_quiet() {
            self.report_drained();
        }
    }

    fn report_drained(&mut self) {
        if std::mem::take(&mut self.drain_due) {
            self.timers.cancel(Timer::Drain);
            self.drained = true;
        }
    }
}
