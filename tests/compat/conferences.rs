//! Conferences, by VoIPBin's own client.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::http;
use crate::mcp::{Mcp, ids, text};
use crate::server::{ACCESS_KEY, Server};

const NEVER: &str = "9999-01-01 00:00:00.000000";
const NIL: &str = "00000000-0000-0000-0000-000000000000";

/// What the API itself shows of a conference.
fn shown(http: SocketAddr, id: &str) -> Value {
    let path = format!("/v1.0/conferences/{id}");
    let (status, text) = http::request(http, "GET", &path, Some(ACCESS_KEY), None).expect("it answers");
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn the_client_is_the_one_of_pypi_and_knows_our_resources() {
    let server = Server::start(&[]);
    let mut mcp = Mcp::start(&server);
    assert_eq!(mcp.itself["serverInfo"], json!({"name": "voipbin", "version": "0.3.0"}));
    let list = mcp.ask("tools/list", &json!({}));
    let tools = list["tools"].as_array().expect("tools").iter();
    let names: Vec<&str> = tools.map(|tool| text(tool, "name")).collect();
    for tool in ["list_conferences", "get_conference", "create_conference", "delete_conference"] {
        assert!(names.contains(&tool), "{tool} in {names:?}");
    }
    let customer = mcp.call("get_customer", &json!({}));
    assert_eq!(customer["tm_delete"], NEVER);
}

#[test]
fn a_conference_is_created_read_listed_and_deleted() {
    let server = Server::start(&[]);
    let mut mcp = Mcp::start(&server);
    let made = mcp.call("create_conference", &json!({"name": "stand-up", "detail": "every day"}));
    assert_eq!((&made["name"], &made["detail"]), (&json!("stand-up"), &json!("every day")));
    assert_eq!((&made["type"], &made["timeout"]), (&json!("conference"), &json!(3600)), "its defaults");
    assert_eq!((&made["pre_flow_id"], &made["tm_end"]), (&json!(NIL), &Value::Null));
    assert_eq!(text(&made, "direct_hash").len(), 12);
    let id = text(&made, "id").to_owned();
    assert_eq!(mcp.call("get_conference", &json!({"conference_id": id})), made);
    assert_eq!(shown(server.http, &id), made, "the client shows what the API says");
    assert_eq!(mcp.call("list_conferences", &json!({}))["result"], json!([made]));

    let deleted = mcp.call("delete_conference", &json!({"conference_id": id}));
    assert_eq!((&deleted["status"], &deleted["direct_hash"]), (&json!("terminated"), &json!("")));
    assert_ne!(deleted["tm_delete"], NEVER);
    assert_eq!(mcp.call("delete_conference", &json!({"conference_id": id})), deleted, "a second time");
    assert_eq!(mcp.call("get_conference", &json!({"conference_id": id})), deleted);
    assert_eq!(mcp.call("list_conferences", &json!({}))["result"], json!([]));
}

#[test]
fn every_argument_arrives() {
    let server = Server::start(&[]);
    let mut mcp = Mcp::start(&server);
    let flow = mcp.call("create_flow", &json!({"name": "x", "detail": "", "actions": [{"type": "beep"}]}));
    let made = mcp.call(
        "create_conference",
        &json!({"name": "two", "conference_type": "connect", "timeout": 0,
            "pre_flow_id": flow["id"], "post_flow_id": flow["id"]}),
    );
    assert_eq!((&made["type"], &made["timeout"]), (&json!("connect"), &json!(0)));
    assert_eq!((&made["pre_flow_id"], &made["post_flow_id"]), (&flow["id"], &flow["id"]));
}

#[test]
fn pages_follow_one_another_newest_first() {
    let server = Server::start(&[]);
    let mut mcp = Mcp::start(&server);
    let mut made = Vec::new();
    for number in 0..5 {
        let one = mcp.call("create_conference", &json!({"name": number.to_string()}));
        made.insert(0, text(&one, "id").to_owned());
    }
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let page = mcp.call("list_conferences", &json!({"page_size": 2, "page_token": token}));
        seen.extend(ids(&page));
        token = text(&page, "next_page_token").to_owned();
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, made);
}
