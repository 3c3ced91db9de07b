//! How a flow begins: before the mix, at the end, or at the end with nobody there.

use crate::bridge::flow::EXECUTIONS_MAX;
use crate::bridge::flow::action::Action;
use crate::bridge::flow::execution::{Execution, Subject, Then};
use crate::bridge::flow::resource::FlowStage;
use crate::bridge::flow::variables::DIGITS;
use crate::bridge::{ADDRESS_TEXT_MAX, Bridge, Level};
use crate::id::{ActiveflowId, ConferenceId, ConferencecallId, CustomerId, FlowId};
use crate::plane::{Hears, PortSource, ShardCommand};
use crate::sip::Cause;
use crate::time::Now;

impl Bridge {
    /// Runs the flow at the end for a caller. False when it cannot: then the caller is to go.
    pub(in crate::bridge) fn start_post_flow(
        &mut self,
        now: Now,
        call: ConferencecallId,
        cause: Cause,
        ports: &mut dyn PortSource,
    ) -> bool {
        self.stop_flow(now, call, "the conference ended");
        let Some((of, flow)) = self.subject(call, FlowStage::Post) else { return false };
        if let Some(leg) = self.leg_of(call) {
            self.order_leg(call, ShardCommand::SetHears { leg, hears: Hears::Nothing });
        }
        self.start_flow(now, flow, of, Then::Eject(cause), ports)
    }

    /// Runs the flow before the mix for a caller. False when it cannot: then the caller joins.
    pub(in crate::bridge) fn start_pre_flow(
        &mut self,
        now: Now,
        call: ConferencecallId,
        flow: FlowId,
        ports: &mut dyn PortSource,
    ) -> bool {
        let Some((of, _)) = self.subject(call, FlowStage::Pre) else { return false };
        self.start_flow(now, flow, of, Then::Join, ports)
    }

    /// Runs the flow at the end of a conference in which nobody is.
    pub(in crate::bridge) fn start_lone_post_flow(
        &mut self,
        now: Now,
        id: ConferenceId,
        ports: &mut dyn PortSource,
    ) {
        let Some(conference) = self.conferences.get(&id) else { return };
        let (flow, customer) = (conference.resource.post_flow_id, conference.resource.customer_id);
        if !flow.is_nil() {
            self.start_lone_flow(now, (customer, id), flow, FlowStage::Post, ports);
        }
    }

    /// Runs a flow of a conference without a call.
    pub(in crate::bridge) fn start_lone_flow(
        &mut self,
        now: Now,
        (customer, conference): (CustomerId, ConferenceId),
        flow: FlowId,
        stage: FlowStage,
        ports: &mut dyn PortSource,
    ) {
        let of = Subject { customer, conference, call: ConferencecallId::NIL, stage };
        self.start_flow(now, flow, of, Then::Nothing, ports);
    }

    /// A caller with media, and the flow at the end of its conference.
    fn subject(&self, call: ConferencecallId, stage: FlowStage) -> Option<(Subject, FlowId)> {
        self.leg_of(call)?;
        let of = self.calls.get(&call).filter(|call| call.is_in())?;
        let conference = self.conferences.get(&of.resource.conference_id)?;
        let flow = conference.resource.post_flow_id;
        if stage == FlowStage::Post && flow.is_nil() {
            return None;
        }
        let (customer, conference) = (of.resource.customer_id, conference.resource.id);
        Some((Subject { customer, conference, call, stage }, flow))
    }

    /// Runs a flow. False when there is no such flow, or too many run: then nothing follows.
    fn start_flow(
        &mut self,
        now: Now,
        flow: FlowId,
        of: Subject,
        then: Then,
        ports: &mut dyn PortSource,
    ) -> bool {
        if self.draining {
            return false;
        }
        let Some(program) = self.flows.program(of.customer, flow) else {
            let text = format!("flow {flow} is not there any more: the conference goes on without it");
            self.journal.note_call(Level::Warn, "", of.conference, of.call, text);
            return false;
        };
        if self.executions.len() >= EXECUTIONS_MAX {
            self.tally.flows_refused_total += 1;
            let text = format!("flow {flow} does not run: {EXECUTIONS_MAX} flows run already");
            self.journal.note_call(Level::Error, "", of.conference, of.call, text);
            return false;
        }
        let id = ActiveflowId::random(&mut self.rng);
        let wants_digits = program.any(|action| {
            matches!(action, Action::DigitsReceive { .. } | Action::Fetch { .. } | Action::FetchFlow(_))
        });
        let mut execution = Execution::new(id, (flow, program), of, then, now.wall);
        self.tally.activeflows_total += 1;
        self.introduce(&mut execution);
        if let Some(call) = execution.call() {
            self.executions.by_call.insert(call, id);
            execution.hears_tones = wants_digits && self.listen_for_tones(call, true);
            if let Some(call) = self.calls.get_mut(call) {
                call.resource.activeflow_id = id.0;
                call.resource.tm_update = now.wall;
                self.journal.keep_call(&call.resource);
            }
        } else {
            execution.ends_by = Some(now.instant + self.settings.drain_timeout);
        }
        self.go_on_flow(now, execution, ports);
        true
    }

    /// Sets the variables that every flow has.
    fn introduce(&mut self, execution: &mut Execution) {
        let mut set = |name: &str, value: &str| {
            let cut: String = value.chars().take(ADDRESS_TEXT_MAX).collect();
            execution.variables.set(name, &cut).expect("a new execution has room, and the value is short");
        };
        if let Some(conference) = self.conferences.get(&execution.record.conference_id) {
            set("voipbin.conference.id", &conference.resource.id.to_string());
            set("voipbin.conference.name", &conference.resource.name);
        }
        if let Some(call) = self.calls.get(&execution.record.conferencecall_id) {
            let of = &call.resource;
            set("voipbin.call.id", &of.reference_id.to_string());
            set("voipbin.call.direction", &of.direction);
            set(DIGITS, "");
            set("voipbin.call.source.target", &of.source.target);
            set("voipbin.call.source.target_name", &of.source.target_name);
            set("voipbin.call.destination.target", &of.destination.target);
        }
        set("voipbin.activeflow.id", &execution.record.id.to_string());
        set("voipbin.activeflow.flow_id", &execution.record.flow_id.to_string());
    }
}
