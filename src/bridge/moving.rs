//! How a call goes over to another conference (`conference_join` of a flow): the conferencecall it had is
//! `leaved`, a new one of the same call is `joining` there, and its leg moves, as it is, into the room. The
//! flow before the mix of a conference runs once for a call, however often it comes back.

use super::admission::Refused;
use super::conferencecall::Leg;
use super::media::LegState;
use super::{Bridge, Output};
use crate::id::{ConferenceId, ConferencecallId};
use crate::plane::{PortSource, ShardCommand};
use crate::sip::Cause;
use crate::time::Now;

/// Times that one call may go over to another conference.
pub const MOVES_MAX: usize = 16;

impl Bridge {
    /// Whether a caller may go over to this conference; if not, why.
    pub(super) fn may_move(&self, id: ConferencecallId, to: ConferenceId) -> Result<(), String> {
        let call = self.calls.get(&id).filter(|call| call.is_in());
        let Some(call) = call.filter(|call| matches!(call.leg, LegState::Active(_))) else {
            return Err("the call has no media".to_owned());
        };
        let customer = call.resource.customer_id;
        let conference = self.conferences.get(&to).filter(|to| to.resource.customer_id == customer);
        let Some(conference) = conference else { return Err(format!("there is no conference {to}")) };
        if call.was_in.len() >= MOVES_MAX {
            return Err(format!("the call has gone over to another conference {MOVES_MAX} times"));
        }
        match self.has_room(conference) {
            Ok(_) => Ok(()),
            Err(Refused::Terminating) => Err("the conference is terminating".to_owned()),
            Err(Refused::ConnectFull) => Err("busy: the connect holds two already".to_owned()),
            Err(Refused::Members) => Err("busy: the conference holds as many as it may".to_owned()),
            Err(_) => Err("the conference has ended".to_owned()),
        }
    }

    /// Has a call go over to another conference, which it may join.
    pub(super) fn move_call(
        &mut self,
        now: Now,
        id: ConferencecallId,
        to: ConferenceId,
        ports: &mut dyn PortSource,
    ) {
        let new_id = ConferencecallId::random(&mut self.rng);
        let Some(old) = self.calls.get_mut(id).filter(|call| call.is_in()) else { return };
        let new = old.hand_over(new_id, to, now.wall);
        old.leave(Cause::new(Cause::normal().q850, None, format!("Joined conference {to}")), now.wall);
        let from = old.resource.conference_id;
        let came_back = new.was_in.contains(&to);
        if let Some(conference) = self.conferences.get_mut(&from) {
            conference.leave(id, now.wall);
        }
        self.tally.moved_total += 1;
        self.tell_call(now, id, "conferencecall_leaving");
        self.calls.insert(new);
        self.move_leg(new_id, to);
        self.leave_room(id);
        self.close_books(now, id, format!("left: it joins conference {to}"));
        self.tell_call(now, new_id, "conferencecall_joining");
        let pre_flow = self.conferences.get(&to).map(|of| of.resource.pre_flow_id);
        let pre_flow = pre_flow.filter(|flow| !flow.is_nil() && !came_back);
        if pre_flow.is_none_or(|flow| !self.start_pre_flow(now, new_id, flow, ports)) {
            self.join_after_flow(now, new_id, ports);
        }
    }

    /// Has the leg of a call that is new in a conference come into its room, where it neither hears nor
    /// is heard yet.
    fn move_leg(&mut self, id: ConferencecallId, to: ConferenceId) {
        let max_speakers = self.settings.max_speakers;
        let (Some(conference), Some(call)) = (self.conferences.get_mut(&to), self.calls.get_mut(id)) else {
            return;
        };
        conference.enter(id);
        let LegState::Active(Leg { id: leg, shard: from }) = call.leg else { return };
        let room = conference.open_room(&mut self.shards, &mut self.journal, max_speakers);
        self.shards.enter(room);
        let (shard, room) = (room.shard, room.room);
        call.leg = LegState::Active(Leg { id: leg, shard });
        self.calls.name_leg(leg, id);
        self.name_leg_to_recordings(to, leg, id);
        self.name_leg_to_transcribe(to, leg, id);
        self.journal.push(Output::Shard { shard, command: ShardCommand::MoveLeg { leg, room, from } });
    }
}
