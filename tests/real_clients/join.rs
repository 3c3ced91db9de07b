//! A flow takes its caller to a conference that lives in another media thread: who hears whom there.

use std::time::Duration;

use serde_json::{Value, json};

use crate::flows::Call;
use crate::phones::Baresip;
use crate::process::pass;
use crate::server::{Server, text};
use crate::sound::Heard;

const GATE_HZ: u32 = 1_500;
const TARGET_HZ: u32 = 700;
const MOVED_HZ: u32 = 1_200;

#[test]
fn a_caller_who_is_taken_to_another_conference_hears_and_is_heard_there_only() {
    let server = Server::start_in_two_shards();
    let gate = server.conference("conference");
    let inside = Call::start(&gate.uri(), &["--tone", "1500", "--for", "40s"]);
    gate.wait_for_joined(1);
    let target = server.conference("conference");
    let there = Call::start(&target.uri(), &["--tone", "700", "--for", "40s"]);
    target.wait_for_joined(1);
    let flow = json!({"actions": [
        {"type": "beep"},
        {"type": "conference_join", "option": {"conference_id": target.id}},
    ]});
    let flow = server.api("POST", "/flows", Some(&flow));
    server.api("PUT", &format!("/conferences/{}", gate.id), Some(&json!({"pre_flow_id": flow["id"]})));

    let moved = Baresip::call(&gate.uri(), MOVED_HZ);
    let joined = target.wait_for_joined(2);
    pass(Duration::from_millis(3_000));
    let was: Vec<Value> = gate.calls().into_iter().filter(|call| call["status"] == "leaved").collect();
    assert_eq!(was.len(), 1, "{was:#?}");
    assert_eq!(text(&was[0], "hangup_cause"), format!("Joined conference {}", target.id));
    assert!(joined.iter().any(|call| call["reference_id"] == was[0]["reference_id"]), "{joined:#?}");
    assert_eq!(server.metric("confab_conferencecalls_moved_total "), 1.0);
    assert_eq!(server.metric("confab_media_legs "), 3.0);

    let moved = moved.hang_up();
    target.wait_for_joined(1);
    gate.delete();
    target.delete();
    let (inside, there) = (Heard::of(inside.end().1), Heard::of(there.end().1));
    moved.assert_hears("who was taken there", TARGET_HZ);
    moved.assert_does_not_hear("who was taken there", GATE_HZ);
    moved.assert_does_not_hear("who was taken there", MOVED_HZ);
    there.assert_hears("who was there", MOVED_HZ);
    there.assert_does_not_hear("who was there", GATE_HZ);
    inside.assert_does_not_hear("who stayed", MOVED_HZ);
    inside.assert_does_not_hear("who stayed", TARGET_HZ);
}
