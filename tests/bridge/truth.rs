//! What must be true when everything is over.

use confab::bridge::resource::{ConferenceStatus, ConferencecallStatus};

use crate::support::{DataPlane, Recorder, Sim, Stage};

/// Nothing is left over: no dialog, no leg, no room, no port, no open conferencecall; and every
/// phone knows that its call is over.
pub fn assert_nothing_left(sim: &Sim<Recorder>) {
    let gauges = sim.bridge.gauges();
    assert_eq!(gauges.sip_calls, 0, "dialogs left");
    assert_eq!(gauges.sip_transactions, 0, "transactions left");
    assert_eq!(gauges.conferencecalls[..3], [0, 0, 0], "conferencecalls left");
    assert_eq!(gauges.shards.iter().map(|load| load.legs + load.rooms).sum::<usize>(), 0, "shard load left");
    assert!(sim.plane.legs.is_empty(), "legs left: {:?}", sim.plane.legs);
    assert!(sim.plane.taps.is_empty(), "taps left: {:?}", sim.plane.taps);
    assert!(sim.plane.rooms.is_empty(), "rooms left: {:?}", sim.plane.rooms);
    assert!(sim.ports.held.is_empty(), "ports neither carried nor given back: {:?}", sim.ports.held);
    assert!(sim.ports.carried.is_empty(), "ports of legs that are gone: {:?}", sim.ports.carried);
    assert_eq!(gauges.activeflows, 0, "flows left");
    assert!(sim.plane.plays.is_empty() && sim.plane.listening.is_empty(), "legs left alone");
    assert!(sim.kept.activeflows.values().all(|run| run.tm_end.is_some()), "flows that are told to run");
    for call in sim.kept.calls.values() {
        assert_eq!(call.status, ConferencecallStatus::Leaved, "{call:?}");
        assert!(call.tm_leaved.is_some() && !call.hangup_cause.is_empty(), "{call:?}");
    }
    for phone in &sim.phones {
        assert!(
            !matches!(phone.stage, Stage::Calling | Stage::InCall),
            "{} thinks it is {:?}",
            phone.name,
            phone.stage
        );
    }
    assert!(sim.plane.next_timeout().is_none());
}

/// Every conferencecall was told of by its events, in order, each once; every conference's end too.
pub fn assert_events_tell_all(sim: &Sim<Recorder>) {
    for (id, events) in &sim.kept.events {
        let told = |r#type: &str, call: &str| {
            let is_it =
                |event: &&confab::bridge::event::Event| event.r#type == r#type && event.data["id"] == call;
            events.iter().filter(is_it).map(|event| event.seq).collect::<Vec<_>>()
        };
        for call in sim.kept.calls.values().filter(|call| call.conference_id == *id) {
            let name = call.id.to_string();
            let joining = told("conferencecall_joining", &name);
            let joined = told("conferencecall_joined", &name);
            let leaving = told("conferencecall_leaving", &name);
            let leaved = told("conferencecall_leaved", &name);
            assert_eq!((joining.len(), leaving.len(), leaved.len()), (1, 1, 1), "{call:?}");
            assert_eq!(joined.len(), usize::from(call.tm_joined.is_some()), "{call:?}");
            assert!(joining[0] < leaving[0] && leaving[0] < leaved[0]);
            assert!(joined.iter().all(|seq| joining[0] < *seq && *seq < leaving[0]));
        }
        let kept = &sim.kept.conferences[id].conference;
        let last = events
            .iter()
            .rev()
            .find(|event| event.r#type.starts_with("conference_"))
            .expect("it was created");
        let status = serde_json::to_value(kept.status).expect("a status is a word");
        assert_eq!(last.data["status"], status, "the last word on {id}");
        assert_eq!(kept.tm_end.is_some(), kept.status == ConferenceStatus::Terminated);
    }
}
