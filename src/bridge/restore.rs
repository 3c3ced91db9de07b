//! What a restart goes on with. Calls do not outlive the process; conferences, their hashes and
//! their timeouts do.

use std::collections::BTreeMap;

use super::conference::{CONNECT_MEMBERS, LiveConference};
use super::conferencecall::{begin_leaving, close};
use super::event::ConferenceRecord;
use super::flow::{Activeflow, Flow};
use super::resource::{ConferenceStatus, ConferenceType, Conferencecall, ConferencecallStatus};
use super::{Bridge, Level, as_json};
use crate::id::ConferenceId;
use crate::plane::{MediaPort, PortSource, RangeExhausted};
use crate::sip::Cause;
use crate::time::Now;

/// A restart has no calls, so nothing is bound or given back.
struct NoPorts;

impl PortSource for NoPorts {
    fn bind(&mut self, _: std::net::IpAddr, _: bool) -> Result<MediaPort, RangeExhausted> {
        Err(RangeExhausted)
    }

    fn release(&mut self, _: MediaPort) {}
}

impl Bridge {
    /// Takes over what the store kept, before the first input. `conferences` are those that had not
    /// ended, and any ended ones whose hash is to be answered 410, the longest ended first;
    /// `open_calls` are closed with a cause, and their events told.
    pub fn restore(&mut self, now: Now, conferences: Vec<ConferenceRecord>, open_calls: Vec<Conferencecall>) {
        let mut live = Vec::new();
        for record in conferences {
            if record.conference.status == ConferenceStatus::Terminated {
                let of = &record.conference;
                self.hashes.retire(&of.direct_hash, of.customer_id, of.id);
            } else {
                live.push(record.conference.id);
                self.restore_conference(record);
            }
        }
        let text =
            format!("restored {} conferences; {} calls had been cut off", live.len(), open_calls.len());
        self.journal.note(Level::Info, ConferenceId::NIL, text);
        let mut joined: BTreeMap<ConferenceId, usize> = BTreeMap::new();
        for call in open_calls.iter().filter(|call| call.status == ConferencecallStatus::Joined) {
            *joined.entry(call.conference_id).or_default() += 1;
        }
        for call in open_calls {
            self.close_restored(now, call);
        }
        for (id, count) in joined {
            if let Some(of) = self.conferences.get_mut(&id) {
                // Once two were joined and one leaves, for whatever reason, a connect ends.
                of.paired = of.resource.r#type == ConferenceType::Connect && count >= CONNECT_MEMBERS;
            }
        }
        self.close_cut_off_recordings(now);
        self.start_recording_end_flows(now, &mut NoPorts);
        for id in live {
            self.go_on(now, id);
        }
        self.keep_touched();
    }

    /// Takes over the flows that the store kept, before [`Bridge::restore`]: a conference that ends in
    /// it runs one. `running` are those that the end of the process cut off.
    pub fn restore_flows(&mut self, now: Now, flows: Vec<Flow>, running: Vec<Activeflow>) {
        for flow in flows {
            self.restore_flow(flow);
        }
        for record in running {
            self.close_restored_flow(now.wall, record);
        }
    }

    fn restore_conference(&mut self, record: ConferenceRecord) {
        let conference = LiveConference::from_record(record);
        self.hashes.restore(&conference.dialled_by, conference.resource.id);
        self.insert_conference(conference);
    }

    /// A call that was cut off: told as left.
    fn close_restored(&mut self, now: Now, mut call: Conferencecall) {
        // 41: temporary failure.
        let cause = Cause::new(41, None, "The server restarted");
        let conference = call.conference_id;
        if call.status < ConferencecallStatus::Leaving {
            begin_leaving(&mut call, &cause, now.wall);
            self.journal.keep_call(&call);
            self.tell(now, conference, "conferencecall_leaving", as_json(&call));
        }
        if call.status == ConferencecallStatus::Leaving {
            close(&mut call, now.wall);
            self.journal.keep_call(&call);
            self.tell(now, conference, "conferencecall_leaved", as_json(&call));
        }
    }

    /// What is next in the life of a restored conference.
    fn go_on(&mut self, now: Now, id: ConferenceId) {
        let Some(conference) = self.conferences.get(&id) else { return };
        match conference.resource.status {
            ConferenceStatus::Starting => self.begin(now, id, &mut NoPorts),
            ConferenceStatus::Progressing if conference.paired => {
                self.begin_end(now, id, Cause::conference_ended(), &mut NoPorts);
            }
            ConferenceStatus::Progressing => self.schedule_end(now, id, &mut NoPorts),
            ConferenceStatus::Terminating => self.end_if_empty(now, id),
            ConferenceStatus::Terminated => {}
        }
    }
}
