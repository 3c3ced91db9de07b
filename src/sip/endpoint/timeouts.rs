//! What happens when time passes.

use super::leave::is_watched;
use super::table::{ClientMachine, Owner, ServerMachine};
use super::{CallKey, Endpoint, Event};
use crate::sip::Cause;
use crate::sip::slots::Key;
use crate::time::Instant;

impl Endpoint {
    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        // Each timer moves behind `now` or goes when it fires, so the loop ends.
        while let Some(owner) = self.timers.due(now) {
            match owner {
                Owner::Call(key) => self.handle_call_timeout(now, key),
                Owner::Server(key) => self.handle_server_timeout(now, key),
                Owner::Client(key) => self.handle_client_timeout(now, key),
            }
        }
    }

    fn handle_server_timeout(&mut self, now: Instant, key: Key) {
        let Some(server) = self.servers.get_mut(key) else { return };
        let fired = match &mut server.machine {
            ServerMachine::Invite(machine) => machine.handle_timeout(now, &self.timing),
            ServerMachine::Other(machine) => machine.handle_timeout(now),
        };
        let flow = server.flow;
        self.counters.timeouts += u64::from(fired.timed_out);
        self.resend(flow, &fired);
        if fired.over { self.close_server(key) } else { self.schedule_server(key) }
    }

    fn handle_client_timeout(&mut self, now: Instant, key: Key) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let fired = match &mut client.machine {
            ClientMachine::Invite(machine) => machine.handle_timeout(now),
            ClientMachine::Other(machine) => machine.handle_timeout(now, &self.timing),
        };
        let flow = client.flow;
        self.resend(flow, &fired);
        if fired.timed_out {
            self.counters.timeouts += 1;
            // RFC 3261 §8.1.3.1: a timeout is a 408.
            self.fail_client(now, key, 408);
        } else if fired.over {
            self.close_client(key);
        } else {
            self.schedule_client(key);
        }
    }

    /// The 2xx again, or after 64·T1 without an ACK the end (RFC 3261 §13.3.1.4); or our
    /// re-INVITE again after 491 (§14.1).
    fn handle_call_timeout(&mut self, now: Instant, key: Key) {
        let timing = self.timing;
        let Some(call) = self.calls.get_mut(key) else { return };
        let flow = call.flow;
        if call.retry_at.is_some_and(|at| at <= now) {
            call.retry_at = None;
            self.send_reinvite(now, key);
        } else if let Some(unacked) = &mut call.unacked {
            if unacked.expires <= now {
                let watched = is_watched(call);
                let cause = call.cause.take().map_or_else(Cause::no_ack, |cause| *cause);
                self.counters.timeouts += 1;
                self.send_bye(now, key, &cause);
                if watched {
                    self.events.push_back(Event::Ended { call: CallKey(key), cause });
                }
            } else if unacked.repeat.at <= now {
                unacked.repeat = unacked.repeat.doubled(now, Some(timing.t2));
                let response = unacked.response.clone();
                self.counters.retransmissions += 1;
                self.send(flow, response);
            }
        }
        self.schedule_call(key);
    }
}
