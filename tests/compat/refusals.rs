//! What VoIPBin's own client says when we refuse: it takes our errors apart.

use serde_json::json;

use crate::mcp::{Mcp, text};
use crate::server::{ACCESS_KEY, Server};

const UNKNOWN: &str = "11111111-1111-4111-8111-111111111111";

/// Whether the client found code, reason, message and request id in the error.
fn assert_said(said: &str, code: u16, reason: &str, message: &str) {
    let expected = format!("VoIPbin API error {code} ({reason}): {message}");
    assert!(said.contains(&expected), "{expected:?} in {said:?}");
    assert!(said.contains(" [request_id: "), "{said}");
}

#[test]
fn unknown_ids() {
    let server = Server::start(&[]);
    let mut mcp = Mcp::start(&server);
    let flow = json!({"flow_id": UNKNOWN, "name": "", "detail": "", "actions": []});
    for (tool, arguments, what) in [
        ("get_conference", json!({"conference_id": UNKNOWN}), "conference"),
        ("delete_conference", json!({"conference_id": UNKNOWN}), "conference"),
        ("get_flow", json!({"flow_id": UNKNOWN}), "flow"),
        ("delete_flow", json!({"flow_id": UNKNOWN}), "flow"),
        ("update_flow", flow, "flow"),
    ] {
        let said = mcp.fails(tool, &arguments);
        assert_said(&said, 404, "RESOURCE_NOT_FOUND", &format!("there is no such {what}"));
    }
    // Another customer's is as unknown as any.
    let made = mcp.call("create_conference", &json!({"name": "ours"}));
    let customer = server.admin("POST", "/customers", Some(&json!({"name": "other"})));
    let key = server.admin("POST", "/accesskeys", Some(&json!({"customer_id": customer["id"]})));
    let mut other = Mcp::start_with(&server, &[("VOIPBIN_API_KEY", text(&key, "token"))]);
    let said = other.fails("get_conference", &json!({"conference_id": made["id"]}));
    assert_said(&said, 404, "RESOURCE_NOT_FOUND", "there is no such conference");
    assert_eq!(other.call("list_conferences", &json!({}))["result"], json!([]));
}

#[test]
fn bad_values() {
    let server = Server::start(&[]);
    let mut mcp = Mcp::start(&server);
    for (arguments, message) in [
        (json!({"name": "x", "conference_type": "queue"}), "`type` must be one of conference, connect"),
        (json!({"name": "x", "timeout": -1}), "`timeout` must be from 0 to 2592000"),
        (json!({"name": "x", "pre_flow_id": "greet"}), "`pre_flow_id` must be a hyphened UUID"),
        (json!({"name": "x", "post_flow_id": UNKNOWN}), "`post_flow_id` names a flow that does not exist"),
    ] {
        assert_said(&mcp.fails("create_conference", &arguments), 400, "INVALID_FIELD", message);
    }
    let dance = json!({"name": "", "detail": "", "actions": [{"type": "answer"}, {"type": "dance"}]});
    let said = mcp.fails("create_flow", &dance);
    assert_said(&said, 400, "INVALID_FIELD", "`actions[1].type` must be one of answer, beep,");
    let said = mcp.fails("get_conference", &json!({"conference_id": "first"}));
    assert_said(&said, 400, "INVALID_PATH", "`id` must be a hyphened UUID");
    let said = mcp.fails("list_conferences", &json!({"page_token": "first"}));
    assert_said(&said, 400, "INVALID_QUERY", "`page_token` must be a `next_page_token` of this list");
}

#[test]
fn no_key_a_wrong_key_and_one_that_may_only_read() {
    let server = Server::start(&[]);
    let said = Mcp::start_with(&server, &[]).fails("list_conferences", &json!({}));
    assert!(said.contains("VOIPBIN_API_KEY environment variable is required"), "{said}");
    let wrong = "vb_00000000000000000000000000000000";
    let said = Mcp::start_with(&server, &[("VOIPBIN_API_KEY", wrong)]).fails("list_conferences", &json!({}));
    assert_said(&said, 401, "INVALID_ACCESS_KEY", "this access key is not valid");

    let customer = server.admin("POST", "/customers", Some(&json!({})));
    let body = json!({"customer_id": customer["id"], "scope": "read"});
    let key = server.admin("POST", "/accesskeys", Some(&body));
    let mut reader = Mcp::start_with(&server, &[("VOIPBIN_API_KEY", text(&key, "token"))]);
    assert_eq!(reader.call("list_conferences", &json!({}))["result"], json!([]));
    let said = reader.fails("create_conference", &json!({"name": "x"}));
    assert_said(&said, 403, "READ_ONLY_KEY", "this access key may only read");
}

#[test]
fn the_key_as_cookie_and_as_query() {
    let server = Server::start(&[]);
    for transport in ["cookie", "query"] {
        let env = [("VOIPBIN_API_KEY", ACCESS_KEY), ("VOIPBIN_AUTH_TRANSPORT", transport)];
        let mut mcp = Mcp::start_with(&server, &env);
        let made = mcp.call("create_conference", &json!({"name": transport}));
        let page = mcp.call("list_conferences", &json!({"page_size": 1}));
        assert_eq!(page["result"][0], made, "{transport}");
    }
}

#[test]
fn a_limit_of_requests_says_when_to_come_back() {
    let server = Server::start(&["http.requests_per_s_per_key=1"]);
    let mut mcp = Mcp::start(&server);
    let limited = (0..20).find_map(|_| {
        let result = mcp.ask("tools/call", &json!({"name": "list_conferences", "arguments": {}}));
        (result["isError"] == true).then(|| result["content"][0]["text"].to_string())
    });
    let said = limited.expect("20 requests at once are more than two");
    assert_said(&said, 429, "RATE_LIMITED", "too many requests of this access key");
    assert!(said.contains("Retry after 1 seconds."), "{said}");
}
