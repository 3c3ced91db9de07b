//! `confab conference list|create|show|end`.

use std::process::ExitCode;

use hyper::Method;
use serde_json::{Value, json};

use super::client::Client;
use super::options::{Filter, New, Output};
use super::table::{list as lines, table};
use crate::app::failure::Failure;
use crate::app::ready::print;

/// Pages read of one list: a million conferences.
const PAGES_MAX: usize = 10_000;

pub(super) async fn list(client: &Client, output: Output, filter: &Filter) -> Result<ExitCode, Failure> {
    let (r#type, status) = (escaped(filter.r#type.as_deref()), escaped(filter.status.as_deref()));
    let rows = all(client, &format!("/conferences?type={type}&status={status}")).await?;
    print(&match output {
        Output::Json => pretty(&Value::Array(rows)),
        Output::Table => {
            let rows: Vec<Vec<String>> = rows.iter().map(row).collect();
            table(&["ID", "TYPE", "STATUS", "IN", "CREATED", "NAME"], &rows)
        }
    });
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn create(client: &Client, output: Output, new: &New) -> Result<ExitCode, Failure> {
    let body = json!({
        "name": new.name,
        "detail": new.detail,
        "type": new.r#type,
        "timeout": new.timeout,
        "direct_access": !new.no_direct_access,
    });
    let made = client.call(Method::POST, "/conferences", Some(&body)).await?;
    print(&shown(output, &made, &[]));
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn show(client: &Client, output: Output, id: &str) -> Result<ExitCode, Failure> {
    let conference = client.call(Method::GET, &path(id), None).await?;
    let calls = match output {
        Output::Json => Vec::new(),
        Output::Table => {
            all(client, &format!("/conferencecalls?conference_id={}", escaped(Some(id)))).await?
        }
    };
    print(&shown(output, &conference, &calls));
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn end(client: &Client, output: Output, id: &str) -> Result<ExitCode, Failure> {
    let ended = client.call(Method::DELETE, &path(id), None).await?;
    print(&shown(output, &ended, &[]));
    Ok(ExitCode::SUCCESS)
}

/// The path of a conference; an id that is none is for the server to refuse.
pub(super) fn path(id: &str) -> String {
    format!("/conferences/{}", escaped(Some(id)))
}

/// Every row of a list. `first` has a query already.
pub(super) async fn all(client: &Client, first: &str) -> Result<Vec<Value>, Failure> {
    let (mut rows, mut token) = (Vec::new(), String::new());
    for _ in 0..PAGES_MAX {
        let mut page = client.call(Method::GET, &format!("{first}&page_token={token}"), None).await?;
        if let Some(result) = page["result"].as_array_mut() {
            rows.append(result);
        }
        token = text(&page, "next_page_token");
        if token.is_empty() {
            break;
        }
    }
    Ok(rows)
}

fn row(conference: &Value) -> Vec<String> {
    let count = conference["conferencecall_ids"].as_array().map_or(0, Vec::len);
    vec![
        text(conference, "id"),
        text(conference, "type"),
        text(conference, "status"),
        count.to_string(),
        second(&text(conference, "tm_create")),
        text(conference, "name"),
    ]
}

fn shown(output: Output, conference: &Value, calls: &[Value]) -> String {
    if output == Output::Json {
        return pretty(conference);
    }
    let hash = text(conference, "direct_hash");
    let dial =
        if hash.is_empty() { "no direct access".to_owned() } else { format!("sip:direct.{hash}@<host>") };
    let timeout = match conference["timeout"].as_u64() {
        Some(0) | None => "never".to_owned(),
        Some(seconds) => format!("{seconds} s after it was created"),
    };
    let mut told = lines(&[
        ("id", text(conference, "id")),
        ("name", text(conference, "name")),
        ("detail", text(conference, "detail")),
        ("type", text(conference, "type")),
        ("status", text(conference, "status")),
        ("dial", dial),
        ("times out", timeout),
        ("created", second(&text(conference, "tm_create"))),
        ("ended", second(&text(conference, "tm_end"))),
    ]);
    if !calls.is_empty() {
        let rows: Vec<Vec<String>> = calls.iter().map(call_row).collect();
        told.push('\n');
        told.push_str(&table(
            &["CONFERENCECALL", "STATUS", "CODEC", "JOINED", "LEFT", "SOURCE", "CAUSE"],
            &rows,
        ));
    }
    told
}

fn call_row(call: &Value) -> Vec<String> {
    vec![
        text(call, "id"),
        text(call, "status"),
        text(call, "codec"),
        second(&text(call, "tm_joined")),
        second(&text(call, "tm_leaved")),
        text(&call["source"], "target"),
        text(call, "hangup_cause"),
    ]
}

/// A text field; empty where there is none.
pub(super) fn text(resource: &Value, field: &str) -> String {
    resource[field].as_str().unwrap_or_default().to_owned()
}

/// A time without its fraction.
pub(super) fn second(time: &str) -> String {
    time.split('.').next().unwrap_or_default().to_owned()
}

/// Text as it may stand in a path or query (RFC 3986 §2.1).
pub(super) fn escaped(text: Option<&str>) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.unwrap_or_default()
        .bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// JSON for programs that people may read too.
pub(super) fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conference_is_told_with_who_is_in_it() {
        let conference = json!({"id": "an-id", "name": "n", "type": "conference", "status": "progressing", "direct_hash": "abc",
            "timeout": 60, "tm_create": "2026-01-01 00:00:00.000001", "conferencecall_ids": ["x"]});
        let calls = [json!({"id": "a-call", "status": "joined", "source": {"target": "sip:me@example.com"}})];
        let told = shown(Output::Table, &conference, &calls);
        for part in ["sip:direct.abc@", "60 s after", "2026-01-01 00:00:00\n", "sip:me@example.com"] {
            assert!(told.contains(part), "{part} in {told}");
        }
        assert_eq!(row(&conference)[3], "1");
        assert_eq!(escaped(Some("a/b?é")), "a%2Fb%3F%C3%A9");
    }
}
