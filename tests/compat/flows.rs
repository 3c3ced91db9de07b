//! Flows, by VoIPBin's own client.

use serde_json::{Value, json};

use crate::mcp::{Mcp, ids, text};
use crate::server::Server;

#[test]
fn a_flow_is_created_read_listed_updated_and_deleted() {
    let server = Server::start(&[]);
    let mut mcp = Mcp::start(&server);
    let actions = json!([
        {"type": "answer"},
        {"type": "talk", "option": {"text": "Welcome.", "language": "en-US"}},
    ]);
    let made = mcp.call("create_flow", &json!({"name": "greet", "detail": "says it", "actions": actions}));
    assert_eq!((&made["name"], &made["type"]), (&json!("greet"), &json!("flow")));
    assert_eq!(made["actions"][1]["option"]["text"], "Welcome.");
    let id = json!({"flow_id": made["id"]});
    assert_eq!(mcp.call("get_flow", &id), made);
    assert_eq!(ids(&mcp.call("list_flows", &json!({}))), [text(&made, "id")]);

    // What it was shown, sent back with a change.
    let mut actions = made["actions"].clone();
    actions[1]["option"]["text"] = json!("Hello.");
    let change = json!({"flow_id": made["id"], "name": "hello", "detail": "", "actions": actions});
    let changed = mcp.call("update_flow", &change);
    assert_eq!((&changed["name"], &changed["detail"]), (&json!("hello"), &json!("")));
    assert_eq!(changed["actions"], actions);
    assert_eq!(mcp.call("get_flow", &id), changed);

    let deleted = mcp.call("delete_flow", &id);
    assert_ne!(deleted["tm_delete"], made["tm_delete"]);
    assert_eq!(mcp.call("list_flows", &json!({}))["result"], json!([]));
    assert!(mcp.fails("update_flow", &change).contains("VoIPbin API error 409 (WRONG_STATUS): "));
}

#[test]
fn the_flow_that_the_clients_own_help_shows_is_taken() {
    let server = Server::start(&[]);
    let mut mcp = Mcp::start(&server);
    // From the description of its tool `create_flow`: ids that are no UUIDs, and an empty one for the last.
    let tools = mcp.ask("tools/list", &json!({}));
    let tools = tools["tools"].as_array().expect("tools");
    let help = tools.iter().find(|tool| tool["name"] == "create_flow").expect("the tool");
    let example = r#"{"id": "a1", "next_id": "a2", "type": "answer", "option": {}}"#;
    assert!(text(help, "description").contains(example), "another example now: {help:#}");
    let actions = json!([
        {"id": "a1", "next_id": "a2", "type": "answer", "option": {}},
        {"id": "a2", "next_id": "", "type": "hangup", "option": {}},
    ]);
    let made = mcp.call("create_flow", &json!({"name": "x", "detail": "", "actions": actions}));
    assert_eq!(made["actions"][0]["next_id"], made["actions"][1]["id"], "{made:#}");
    assert_eq!(text(&made["actions"][0], "id").len(), 36);
}

#[test]
fn activeflows_are_listed_and_an_unknown_one_is_said_to_be() {
    let server = Server::start(&[]);
    let mut mcp = Mcp::start(&server);
    let flow = mcp.call("create_flow", &json!({"name": "x", "detail": "", "actions": [{"type": "beep"}]}));
    let made = mcp.call("create_conference", &json!({"name": "x", "post_flow_id": flow["id"]}));
    mcp.call("delete_conference", &json!({"conference_id": made["id"]}));
    let runs = mcp.call("list_activeflows", &json!({}));
    assert_eq!(runs["result"][0]["flow_id"], flow["id"], "the post flow ran: {runs:#}");
    let run: Value = mcp.call("get_activeflow", &json!({"activeflow_id": runs["result"][0]["id"]}));
    assert_eq!(run["conference_id"], made["id"]);
    let said = mcp.fails("get_activeflow", &json!({"activeflow_id": flow["id"]}));
    assert!(
        said.contains("VoIPbin API error 404 (RESOURCE_NOT_FOUND): there is no such activeflow"),
        "{said}"
    );
}
