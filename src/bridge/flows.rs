//! The customers' flows: made, changed, deleted, and found when they are to run.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::command::{FlowChange, NewFlow, Refusal, Reply};
use super::event::Change;
use super::flow::{FLOWS_MAX, FLOWS_PER_CUSTOMER_MAX, Flow, Program};
use super::{Bridge, Level, Output};
use crate::id::{ConferenceId, CustomerId, FlowId};
use crate::time::{Now, Timestamp};

/// A flow the bridge holds, with its actions as they run.
#[derive(Debug)]
struct LiveFlow {
    resource: Flow,
    program: Arc<Program>,
}

/// The owner of all flows that are not deleted.
#[derive(Debug, Default)]
pub(super) struct Flows {
    by_id: BTreeMap<FlowId, LiveFlow>,
    per_customer: HashMap<CustomerId, usize>,
}

impl Flows {
    /// The actions of a flow of this customer.
    pub(super) fn program(&self, customer: CustomerId, id: FlowId) -> Option<Arc<Program>> {
        self.owned(customer, id).map(|flow| flow.program.clone())
    }

    /// Whether this names no flow, or one of this customer.
    pub(super) fn admits(&self, customer: CustomerId, id: FlowId) -> bool {
        id.is_nil() || self.owned(customer, id).is_some()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    fn owned(&self, customer: CustomerId, id: FlowId) -> Option<&LiveFlow> {
        self.by_id.get(&id).filter(|flow| flow.resource.customer_id == customer)
    }

    fn insert(&mut self, resource: Flow, program: Arc<Program>) {
        *self.per_customer.entry(resource.customer_id).or_default() += 1;
        self.by_id.insert(resource.id, LiveFlow { resource, program });
    }

    fn remove(&mut self, id: FlowId) -> Option<Flow> {
        let flow = self.by_id.remove(&id)?.resource;
        if let Some(count) = self.per_customer.get_mut(&flow.customer_id) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.per_customer.remove(&flow.customer_id);
            }
        }
        Some(flow)
    }
}

impl Bridge {
    pub(super) fn create_flow(
        &mut self,
        now: Now,
        customer: CustomerId,
        new: NewFlow,
    ) -> Result<Reply, Refusal> {
        if self.draining {
            return Err(Refusal::Draining);
        }
        let own = self.flows.per_customer.get(&customer).copied().unwrap_or(0);
        if own >= FLOWS_PER_CUSTOMER_MAX {
            return Err(Refusal::Limit("flows of this customer"));
        }
        if self.flows.len() >= FLOWS_MAX {
            return Err(Refusal::Limit("flows"));
        }
        let flow = Flow {
            id: FlowId::random(&mut self.rng),
            customer_id: customer,
            r#type: "flow".to_owned(),
            name: new.name,
            detail: new.detail,
            actions: new.program.shown().to_vec(),
            tm_create: now.wall,
            tm_update: Timestamp::NEVER,
            tm_delete: Timestamp::NEVER,
        };
        self.flows.insert(flow.clone(), new.program);
        Ok(self.keep_flow(flow))
    }

    pub(super) fn update_flow(
        &mut self,
        now: Now,
        (customer, id): (CustomerId, FlowId),
        change: FlowChange,
    ) -> Result<Reply, Refusal> {
        let flow = self.flows.by_id.get_mut(&id).filter(|flow| flow.resource.customer_id == customer);
        let flow = flow.ok_or(Refusal::NotFound)?;
        if change == FlowChange::default() {
            return Ok(Reply::Flow(Box::new(flow.resource.clone())));
        }
        let of = &mut flow.resource;
        of.name = change.name.unwrap_or_else(|| std::mem::take(&mut of.name));
        of.detail = change.detail.unwrap_or_else(|| std::mem::take(&mut of.detail));
        if let Some(program) = change.program {
            // Those that run go on with what they began.
            of.actions = program.shown().to_vec();
            flow.program = program;
        }
        of.tm_update = now.wall;
        let kept = of.clone();
        Ok(self.keep_flow(kept))
    }

    pub(super) fn delete_flow(
        &mut self,
        now: Now,
        (customer, id): (CustomerId, FlowId),
    ) -> Result<Reply, Refusal> {
        self.flows.owned(customer, id).ok_or(Refusal::NotFound)?;
        let mut flow = self.flows.remove(id).ok_or(Refusal::NotFound)?;
        flow.tm_delete = now.wall;
        flow.tm_update = now.wall;
        Ok(self.keep_flow(flow))
    }

    fn keep_flow(&mut self, flow: Flow) -> Reply {
        self.journal.push(Output::Persist(Change::Flow(Box::new(flow.clone()))));
        Reply::Flow(Box::new(flow))
    }

    /// The live state of those of these flows that the bridge holds.
    pub(super) fn read_flows(&self, customer: CustomerId, ids: &[FlowId]) -> Reply {
        let held = ids.iter().filter_map(|id| self.flows.owned(customer, *id));
        Reply::Flows(held.map(|flow| flow.resource.clone()).collect())
    }

    /// Whether the flows a conference names are there.
    pub(super) fn check_flows(
        &self,
        customer: CustomerId,
        pre: Option<FlowId>,
        post: Option<FlowId>,
    ) -> Result<(), Refusal> {
        let named = [("pre_flow_id", pre), ("post_flow_id", post)];
        named.into_iter().try_for_each(|(key, id)| self.check_flow(customer, key, id.unwrap_or(FlowId::NIL)))
    }

    /// Whether the flow that `key` names is there; nil names none.
    pub(super) fn check_flow(
        &self,
        customer: CustomerId,
        key: &'static str,
        id: FlowId,
    ) -> Result<(), Refusal> {
        if self.flows.admits(customer, id) { Ok(()) } else { Err(Refusal::NoSuchFlow(key)) }
    }

    /// Takes over the flows that the store kept. One that this version cannot read does not run.
    pub(super) fn restore_flow(&mut self, flow: Flow) {
        match Program::of(flow.actions.clone()) {
            Ok(program) => self.flows.insert(flow, Arc::new(program)),
            Err(fault) => {
                let text = format!("flow {} cannot be run by this version: {fault}", flow.id);
                self.journal.note(Level::Error, ConferenceId::NIL, text);
            }
        }
    }
}
