//! The server on PostgreSQL: kill -9 of the one, then of the other, with a caller in the conference.

#[path = "../support/postgres.rs"]
mod private;

use std::time::Duration;

use serde_json::json;

use crate::crash::survives_a_kill;
use crate::process::wait_for;
use crate::server::Server;
use crate::sipp::Sipp;

/// How long it may take until the database is noticed to be there again, or gone.
const NOTICE_LIMIT: Duration = Duration::from_secs(30);

#[test]
fn a_server_on_postgres_outlives_kills_of_itself_and_of_the_database() {
    let mut postgres = private::Server::start();
    let mut server = Server::start_on(format!("{}&password=s3cret", postgres.address()));
    let (id, user) = survives_a_kill(&mut server);
    let path = format!("/conferences/{id}");

    // The database goes while somebody talks: the call goes on, changes are in effect but not durable.
    let caller = Sipp::new("call", server.sip, &user).holding(Duration::from_secs(60)).start();
    let live = || server.api("GET", &path, None)["conferencecall_ids"].as_array().map_or(0, Vec::len);
    wait_for("the caller to join", NOTICE_LIMIT, || (live() == 1).then_some(()));
    postgres.kill();
    let (status, answer) = server.ask("PUT", &path, Some(&json!({ "name": "renamed" })));
    assert_eq!(status, 503, "{answer}");
    assert!(answer.contains("NOT_DURABLE"), "{answer}");
    assert_eq!(live(), 1, "the call goes on");
    // Another one comes in while nothing can be written.
    Sipp::new("call", server.sip, &user).holding(Duration::from_millis(300)).run();

    postgres.start_again();
    wait_for("a change to be durable", NOTICE_LIMIT, || {
        let (status, _) = server.ask("PUT", &path, Some(&json!({ "detail": "again" })));
        (status == 200).then_some(())
    });
    assert_eq!(live(), 1, "the call has gone on");
    drop(caller);
    server.restart();
    let shown = server.api("GET", &path, None);
    assert_eq!((&shown["name"], &shown["detail"]), (&json!("renamed"), &json!("again")));
    let calls = server.api("GET", &format!("/conferencecalls?conference_id={id}"), None);
    let calls = calls["result"].as_array().expect("a list").clone();
    assert_eq!(calls.len(), 3, "{calls:#?}");
    assert!(calls.iter().all(|call| call["status"] == "leaved"), "{calls:#?}");
    assert!(!server.said().contains("s3cret"), "the password is logged");
    Sipp::new("call", server.sip, &user).holding(Duration::from_millis(300)).run();
}
