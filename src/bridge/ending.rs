//! How a conference ends, by its owner, its timeout or the rule of a `connect`; and how the server
//! does.

use super::conferencecall::LiveCall;
use super::resource::ConferenceStatus;
use super::timers::Timer;
use super::{Bridge, Level};
use crate::id::{ConferenceId, ConferencecallId};
use crate::plane::PortSource;
use crate::sip::Cause;
use crate::time::{Duration, Now};

/// How long the legs of callers who were in a flow until the drain timeout may take to close.
const FORCED_OUT_WAIT: Duration = Duration::from_secs(1);

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
            ConferenceStatus::Terminating => self.force_out(now, id, ports),
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

    /// → `terminating`: nobody new gets in, recordings and media streams stop, and everybody in is sent
    /// off, after the flow at the end if there is one. With nobody in it that flow runs once without a
    /// call, and the conference ends meanwhile. A transcription hears no more.
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
        let mut any = false;
        self.end_recordings_of(now, id, "the conference ended");
        self.end_streams_of(id);
        for call in present {
            any |= self.calls.get(&call).is_some_and(LiveCall::is_in);
            if !self.start_post_flow(now, call, cause.clone(), ports) {
                self.eject(now, call, cause.clone(), ports);
            }
        }
        if !any {
            self.start_lone_post_flow(now, id, ports);
        }
        self.end_transcribe_of(now, id);
        self.end_if_empty(now, id);
    }

    /// Whoever is still there when the wait is over is gone.
    fn force_out(&mut self, now: Now, id: ConferenceId, ports: &mut dyn PortSource) {
        let present =
            self.conferences.get(&id).map(|conference| conference.present.clone()).unwrap_or_default();
        let mut ejected = false;
        for call in present {
            if self.calls.get(&call).is_some_and(LiveCall::is_in) {
                // Its flow at the end takes too long.
                self.eject(now, call, Cause::conference_ended(), ports);
                ejected = true;
            } else {
                self.give_up_leg(now, call);
            }
        }
        if ejected {
            self.timers.set(Timer::Conference(id), now.instant + FORCED_OUT_WAIT);
        }
        self.give_up_recordings(now, Some(id));
        self.end_if_empty(now, id);
    }

    /// `terminating` → `terminated`, once nobody is left and every recording has ended. It stays
    /// readable for a while.
    pub(super) fn end_if_empty(&mut self, now: Now, id: ConferenceId) {
        if !self.recordings_have_ended(id) {
            return;
        }
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
        self.stop_all_flows(now);
        self.end_all_recordings(now, "the server stopped");
        self.end_all_streams();
        self.pause_transcribes(now);
    }

    /// The drain has taken too long: whoever is left is gone.
    pub(super) fn force_drain(&mut self, now: Now) {
        let open: Vec<ConferencecallId> = self.calls.iter().map(|call| call.resource.id).collect();
        for id in open {
            self.give_up_leg(now, id);
        }
        self.give_up_recordings(now, None);
        self.report_drained();
    }

    /// The drain is done once every call is gone, every BYE is answered and every recording is on disk.
    pub(super) fn finish_drain(&mut self) {
        let is_kept = self.recordings.live() == 0 && self.transcribes.are_quiet();
        if self.draining && self.calls.is_quiet() && self.sip.calls() == 0 && is_kept {
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
