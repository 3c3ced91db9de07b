//! How a caller leaves, for whatever reason: → `leaving`, its leg out of the room, `leaved` when the
//! shard has closed it.

use super::conferencecall::{Leg, LiveCall};
use super::media::LegState;
use super::timers::Timer;
use super::{Bridge, Level, Output};
use crate::id::{ConferenceId, ConferencecallId};
use crate::plane::{LegStats, PortSource, ShardCommand};
use crate::sip::Cause;
use crate::time::{Instant, Now};

impl Bridge {
    /// We end the call: BYE, or what its state needs, and it leaves.
    pub(super) fn eject(&mut self, now: Now, id: ConferencecallId, cause: Cause, ports: &mut dyn PortSource) {
        let Some(call) = self.calls.get(&id).filter(|call| call.is_in()) else { return };
        let key = call.key;
        self.sip.hang_up(now.instant, key, cause.clone());
        self.calls.drop_key(key);
        self.leave(now, id, cause, ports);
    }

    /// The call is over on the SIP side: its conferencecall leaves.
    pub(super) fn leave(&mut self, now: Now, id: ConferencecallId, cause: Cause, ports: &mut dyn PortSource) {
        self.stop_flow(now, id, "the call ended");
        let Some(call) = self.calls.get_mut(id).filter(|call| call.is_in()) else { return };
        call.pre_flow = None;
        call.leave(cause, now.wall);
        let (was_joined, leg) = (call.resource.tm_joined.is_some(), call.leg);
        let conference = call.resource.conference_id;
        if let Some(conference) = self.conferences.get_mut(&conference) {
            conference.leave(id, now.wall);
        }
        self.tell_call(now, id, "conferencecall_leaving");
        match leg {
            LegState::Active(leg) => self.close_leg(now, id, leg),
            LegState::Waiting(port) => {
                ports.release(port);
                self.close_call(now, id);
            }
            LegState::Closing(_) | LegState::None => self.close_call(now, id),
        }
        let ends =
            self.conferences.get(&conference).is_some_and(|of| was_joined && of.paired && of.is_live());
        if ends {
            let cause = Cause::new(Cause::normal().q850, None, "The other party left");
            self.begin_end(now, conference, cause, ports);
        }
    }

    /// Orders the leg out; its shard will tell when it is closed.
    fn close_leg(&mut self, now: Now, id: ConferencecallId, leg: Leg) {
        let command = ShardCommand::RemoveLeg { leg: leg.id };
        self.journal.push(Output::Shard { shard: leg.shard, command });
        self.leave_room(id);
        if let Some(call) = self.calls.get_mut(id) {
            call.leg = LegState::Closing(leg);
        }
        self.timers.set(Timer::Conferencecall(id), now.instant + self.settings.drain_timeout);
    }

    /// One leg fewer in the room, which closes after its last unless it is tapped.
    pub(super) fn leave_room(&mut self, id: ConferencecallId) {
        let conference = self.calls.get(&id).map(|call| call.resource.conference_id);
        let Some(conference) = conference.and_then(|id| self.conferences.get_mut(&id)) else { return };
        let Some(room) = conference.room.as_mut() else { return };
        self.shards.remove_leg(room);
        let id = conference.resource.id;
        self.close_room_if_unused(id);
    }

    /// Closes a conference's room once it has neither legs nor taps.
    pub(super) fn close_room_if_unused(&mut self, conference: ConferenceId) {
        let Some(conference) = self.conferences.get_mut(&conference) else { return };
        let Some(room) = conference.room.as_mut() else { return };
        if room.legs == 0 && room.taps == 0 {
            let (shard, command) = (room.shard, ShardCommand::CloseRoom { room: room.room });
            self.shards.close_room(room);
            conference.room = None;
            self.journal.push(Output::Shard { shard, command });
        }
    }

    /// The shard has closed the leg, as ordered, or could not make it (then without counters).
    pub(super) fn leg_gone(
        &mut self,
        now: Now,
        id: ConferencecallId,
        stats: Option<LegStats>,
        ports: &mut dyn PortSource,
    ) {
        let Some(call) = self.calls.get_mut(id) else { return };
        call.stats = stats.unwrap_or(call.stats);
        match call.leg {
            LegState::Closing(leg) => {
                self.calls.drop_leg(leg.id);
                self.close_call(now, id);
            }
            LegState::Active(leg) => {
                call.leg = LegState::None;
                self.calls.drop_leg(leg.id);
                self.leave_room(id);
                self.note_of(id, Level::Error, "the data plane could not make this call's leg".to_owned());
                // 47: resource unavailable.
                self.eject(now, id, Cause::new(47, Some(503), "No media resources"), ports);
            }
            LegState::Waiting(_) | LegState::None => {}
        }
    }

    /// The shard did not tell in time that the leg is closed.
    pub(super) fn give_up_leg(&mut self, now: Now, id: ConferencecallId) {
        if let Some(LegState::Closing(leg)) = self.calls.get(&id).map(|call| call.leg) {
            self.tally.legs_given_up_total += 1;
            self.note_of(id, Level::Error, "the data plane did not close this call's leg in time".to_owned());
            self.calls.drop_leg(leg.id);
            self.close_call(now, id);
        }
    }

    /// `leaving` → `leaved`.
    fn close_call(&mut self, now: Now, id: ConferencecallId) {
        let Some(call) = self.calls.get(&id) else { return };
        let text = epitaph(call, now.instant);
        self.tally.count_leaved(call.cause.as_ref().map_or(0, |cause| cause.q850));
        self.tally.past_media.add(&call.stats);
        self.timers.cancel(Timer::Conferencecall(id));
        self.close_books(now, id, text);
    }

    /// The conferencecall is `leaved`, and over with `text`.
    pub(super) fn close_books(&mut self, now: Now, id: ConferencecallId, text: String) {
        let Some(call) = self.calls.get_mut(id) else { return };
        call.close(now.wall);
        let conference = call.resource.conference_id;
        self.calls.count_closed();
        self.tell_call(now, id, "conferencecall_leaved");
        self.note_of(id, Level::Info, text);
        if let Some(oldest) = self.leaved.push(now.instant, id) {
            self.calls.forget(oldest);
        }
        if let Some(conference) = self.conferences.get_mut(&conference) {
            conference.present.remove(&id);
        }
        self.end_if_empty(now, conference);
    }
}

/// How the call was, in one line.
fn epitaph(call: &LiveCall, now: Instant) -> String {
    let stats = &call.stats;
    let expected = stats.packets_in + stats.lost_in;
    let loss = if expected == 0 { 0.0 } else { 100.0 * stats.lost_in as f64 / expected as f64 };
    format!(
        "left: {} (Q.850 {}) after {:.1} s; {} packets in, {} out, {loss:.2} % lost, {} late, {} ms concealed, \
         jitter {:.1} ms, buffer {} ms, MOS {:.1}",
        call.resource.hangup_cause,
        call.cause.as_ref().map_or(0, |cause| cause.q850),
        now.since(call.began).as_secs_f64(),
        stats.packets_in,
        stats.packets_out,
        stats.late_in,
        stats.concealed_ms,
        stats.jitter.as_secs_f64() * 1000.0,
        stats.buffer_delay.as_millis(),
        stats.mos_in,
    )
}
