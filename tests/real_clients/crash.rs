//! kill -9 in the middle of a call: what was there is there again.

use std::time::Duration;

use serde_json::{Value, json};

use crate::server::{Server, text};
use crate::sipp::Sipp;

#[test]
fn a_killed_server_goes_on_with_its_conferences_and_closes_their_calls() {
    let mut server = Server::start();
    let (_, user) = survives_a_kill(&mut server);
    Sipp::new("call", server.sip, &user).holding(Duration::from_millis(300)).run();
}

/// Kills a server with a caller in its conference, and gives the conference's id and who is dialled.
pub fn survives_a_kill(server: &mut Server) -> (String, String) {
    let conference =
        server.conference_of(&json!({ "name": "survivor", "timeout": 3600, "data": { "a": [1, null] } }));
    let (id, user) = (conference.id.clone(), conference.user());
    let caller = Sipp::new("call", server.sip, &user).holding(Duration::from_secs(30)).start();
    let call = conference.wait_for_joined(1).remove(0);
    let before = conference.now();

    server.restart();
    drop(caller);

    let after = server.api("GET", &format!("/conferences/{id}"), None);
    for field in ["id", "status", "name", "timeout", "data", "direct_hash", "tm_create", "tm_end"] {
        assert_eq!(after[field], before[field], "{field}");
    }
    assert_eq!(after["conferencecall_ids"], json!([]));
    let closed: Value = server.api("GET", &format!("/conferencecalls/{}", text(&call, "id")), None);
    assert_eq!(closed["status"], "leaved");
    assert!(!text(&closed, "hangup_cause").is_empty());
    (id, user)
}
