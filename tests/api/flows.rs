//! Flows: made, read, changed and deleted; what is wrong is named; a conference names only flows that
//! are there.

use std::time::Duration;

use axum::http::StatusCode;
use confab::bridge::event::Change;
use confab::bridge::flow::resource::{Activeflow, ActiveflowStatus, FlowStage, FlowStep, StepStatus};
use confab::id::{ActiveflowId, ConferenceId, ConferencecallId, FlowId};
use confab::time::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::Api;

const NIL: &str = "00000000-0000-0000-0000-000000000000";

async fn made(api: &Api) -> String {
    let flow = api.own("POST", "/v1.0/flows", Some(json!({"actions": [{"type": "beep"}]}))).await;
    flow.json["id"].as_str().expect("an id").to_owned()
}

#[tokio::test]
async fn a_flow_is_made_read_changed_and_deleted() {
    let api = Api::new().await;
    let body = json!({"name": "greet", "actions": [
        {"type": "answer"},
        {"type": "digits_receive", "option": {"duration": 3000, "length": 1}, "next_id": null},
    ]});
    let flow = api.own("POST", "/v1.0/flows", Some(body)).await;
    assert_eq!(flow.status, StatusCode::OK);
    assert_eq!((&flow.json["type"], &flow.json["name"]), (&json!("flow"), &json!("greet")));
    assert_eq!(flow.json["actions"][1]["option"], json!({"duration": 3000, "length": 1}));
    assert_eq!(flow.json["actions"][1]["next_id"], NIL);
    assert_ne!(flow.json["actions"][0]["id"], NIL, "an action gets an id");
    let path = format!("/v1.0/flows/{}", flow.json["id"].as_str().expect("an id"));
    assert_eq!(api.own("GET", &path, None).await.json, flow.json);
    let actions = json!([{"type": "stop"}]);
    let changed = api.own("PUT", &path, Some(json!({"detail": "now", "actions": actions}))).await;
    assert_eq!((&changed.json["name"], &changed.json["detail"]), (&json!("greet"), &json!("now")));
    assert_eq!(changed.json["actions"][0]["type"], "stop");
    let deleted = api.own("DELETE", &path, None).await;
    assert_ne!(deleted.json["tm_delete"], "9999-01-01 00:00:00.000000");
    assert_eq!(api.own("DELETE", &path, None).await.json, deleted.json, "a second time changes nothing");
    assert_eq!(api.own("GET", &path, None).await.json, deleted.json);
    assert_eq!(api.own("PUT", &path, Some(json!({}))).await.status, StatusCode::CONFLICT);
    assert_eq!(api.own("GET", "/v1.0/flows", None).await.json["result"], json!([]));
}

#[tokio::test]
async fn what_is_wrong_is_named_by_action_and_option() {
    let api = Api::new().await;
    for (actions, field) in [
        (json!([{"type": "beep"}, {"type": "dance"}]), "actions[1].type"),
        (json!([{"type": "sleep", "option": {"duration": "long"}}]), "actions[0].option.duration"),
        (
            json!([{"type": "play", "option": {"stream_urls": ["gopher://x"]}}]),
            "actions[0].option.stream_urls",
        ),
        (json!("beep"), "actions"),
        (json!(vec![json!({"type": "beep"}); 201]), "actions"),
    ] {
        let refused = api.own("POST", "/v1.0/flows", Some(json!({"actions": actions}))).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{field}");
        assert_eq!(refused.json["error"]["details"][0]["field"], field);
        let id = made(&api).await;
        let refused = api.own("PUT", &format!("/v1.0/flows/{id}"), Some(json!({"actions": actions}))).await;
        assert_eq!(refused.json["error"]["details"][0]["field"], field);
    }
    let refused = api.own("POST", "/v1.0/flows", Some(json!({"type": "other"}))).await;
    assert_eq!(refused.json["error"]["details"][0]["field"], "type");
}

#[tokio::test]
async fn a_conference_names_only_flows_of_its_customer() {
    let api = Api::new().await;
    let id = made(&api).await;
    let unknown = "11111111-1111-4111-8111-111111111111";
    let (_, key) = api.other_customer().await;
    for flow in ["pre_flow_id", "post_flow_id"] {
        let conference = api.own("POST", "/v1.0/conferences", Some(json!({flow: id}))).await;
        assert_eq!((conference.status, &conference.json[flow]), (StatusCode::OK, &json!(id)));
        let path = format!("/v1.0/conferences/{}", conference.json["id"].as_str().expect("an id"));
        for refused in [
            api.own("POST", "/v1.0/conferences", Some(json!({flow: unknown}))).await,
            api.own("PUT", &path, Some(json!({flow: unknown}))).await,
            api.keyed(&key, "POST", "/v1.0/conferences", Some(json!({flow: id}))).await,
        ] {
            assert_eq!(refused.status, StatusCode::BAD_REQUEST);
            assert_eq!(refused.json["error"]["details"][0]["field"], flow);
        }
        assert_eq!(api.own("PUT", &path, Some(json!({flow: NIL}))).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn another_customers_flow_is_as_if_it_did_not_exist() {
    let api = Api::new().await;
    let path = format!("/v1.0/flows/{}", made(&api).await);
    let (_, key) = api.other_customer().await;
    for (method, body) in [("GET", None), ("PUT", Some(json!({"name": "mine"}))), ("DELETE", None)] {
        assert_eq!(api.keyed(&key, method, &path, body).await.status, StatusCode::NOT_FOUND, "{method}");
    }
    assert_eq!(api.keyed(&key, "GET", "/v1.0/flows", None).await.json["result"], json!([]));
}

#[tokio::test]
async fn flows_come_by_the_page_newest_first() {
    let api = Api::new().await;
    let mut all = Vec::new();
    for _ in 0..5 {
        all.insert(0, made(&api).await);
        api.advance(Duration::from_secs(1));
    }
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let page = api.own("GET", &format!("/v1.0/flows?page_size=2&page_token={token}"), None).await.json;
        let rows = page["result"].as_array().expect("rows");
        seen.extend(rows.iter().map(|row| row["id"].as_str().expect("an id").to_owned()));
        token = page["next_page_token"].as_str().expect("a token").to_owned();
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, all);
}

fn run_of(api: &Api, number: u128, conference: ConferenceId) -> Activeflow {
    let now = Timestamp::from_micros(1_700_000_000_000_000 + number as i64);
    Activeflow {
        id: ActiveflowId(Uuid::from_u128(0x4000_8000_0000_0000_0000 + number)),
        customer_id: api.customer,
        flow_id: FlowId(Uuid::from_u128(7)),
        conference_id: conference,
        conferencecall_id: ConferencecallId::NIL,
        stage: FlowStage::Post,
        status: ActiveflowStatus::Ended,
        result: "done".to_owned(),
        steps: vec![FlowStep {
            action_id: Uuid::from_u128(1),
            r#type: "beep".to_owned(),
            status: StepStatus::Skipped,
            result: "there is no call".to_owned(),
            tm_start: now,
            tm_end: Some(now),
        }],
        tm_create: now,
        tm_update: now,
        tm_end: Some(now),
    }
}

#[tokio::test]
async fn activeflows_tell_what_ran() {
    let api = Api::new().await;
    let (one, two) = (ConferenceId(Uuid::from_u128(1)), ConferenceId(Uuid::from_u128(2)));
    for (number, conference) in [(1, one), (2, two), (3, one)] {
        let run = run_of(&api, number, conference);
        api.persist(Change::Activeflow(Box::new(run))).await;
    }
    let ids = |page: &Value| {
        let rows = page["result"].as_array().expect("rows").iter();
        rows.map(|row| row["id"].as_str().expect("an id").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&api.own("GET", "/v1.0/activeflows", None).await.json).len(), 3);
    let of_one = api.own("GET", &format!("/v1.0/activeflows?conference_id={one}"), None).await.json;
    assert_eq!(ids(&of_one).len(), 2);
    let of_flow = format!("/v1.0/activeflows?flow_id={}&page_size=2", Uuid::from_u128(7));
    assert_eq!(ids(&api.own("GET", &of_flow, None).await.json).len(), 2);
    let run = api.own("GET", &format!("/v1.0/activeflows/{}", ids(&of_one)[0]), None).await;
    assert_eq!((run.status, &run.json["steps"][0]["status"]), (StatusCode::OK, &json!("skipped")));
    let (_, key) = api.other_customer().await;
    let hidden = api.keyed(&key, "GET", &format!("/v1.0/activeflows/{}", ids(&of_one)[0]), None).await;
    assert_eq!(hidden.status, StatusCode::NOT_FOUND);
}
