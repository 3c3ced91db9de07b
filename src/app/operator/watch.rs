//! `confab conference watch`: the events of a conference as they happen, over the WebSocket.

use std::process::ExitCode;

use futures_util::{SinkExt as _, StreamExt as _};
use hyper::Method;
use hyper::header::AUTHORIZATION;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::client::Client;
use super::conference::{path, second, text};
use super::options::Output;
use super::table::plain;
use crate::app::failure::Failure;
use crate::app::ready::print;
use crate::time::Duration;

/// How soon a lost connection is made anew.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Attempts without an event in between before it is given up.
const ATTEMPTS_MAX: u32 = 30;

/// How one connection ended.
enum End {
    /// The conference has ended.
    Conference,
    /// Something broke; the last `seq` tells where to go on.
    Lost(String),
}

pub(super) async fn watch(
    client: &Client,
    output: Output,
    id: &str,
    after: Option<u64>,
) -> Result<ExitCode, Failure> {
    let conference = client.call(Method::GET, &path(id), None).await?;
    let topic =
        format!("customer_id:{}:conference:{}", text(&conference, "customer_id"), text(&conference, "id"));
    let mut seq = after;
    let mut attempts = 0;
    loop {
        let before = seq;
        let end = tokio::select! {
            end = follow(client, output, &topic, &mut seq) => end?,
            // A ctrl-C that cannot be heard ends the process by itself.
            _ = tokio::signal::ctrl_c() => return Ok(ExitCode::SUCCESS),
        };
        let End::Lost(why) = end else { return Ok(ExitCode::SUCCESS) };
        attempts = if seq == before { attempts + 1 } else { 0 };
        if attempts >= ATTEMPTS_MAX {
            return Err(client.unreachable(&why));
        }
        eprintln!("the connection was lost ({why}); coming back");
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

/// Follows the conference over one connection; `seq` is kept at the last event shown.
async fn follow(client: &Client, output: Output, topic: &str, seq: &mut Option<u64>) -> Result<End, Failure> {
    let Some(place) = client.base.strip_prefix("http://") else {
        let next = vec!["use --http with an http address: over TLS, watch is not available yet".to_owned()];
        return Err(Failure::advice(format!("{} cannot be watched", client.base), next));
    };
    let mut request = format!("ws://{place}/v1.0/ws")
        .into_client_request()
        .map_err(|error| client.unreachable(&error.to_string()))?;
    request.headers_mut().insert(AUTHORIZATION, client.authorization());
    let mut socket = match tokio_tungstenite::connect_async(request).await {
        Ok((socket, _)) => socket,
        Err(Error::Http(refused)) => {
            let body = refused.body().as_deref().unwrap_or_default();
            let json: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
            let message =
                json["error"]["message"].as_str().map_or(refused.status().to_string(), str::to_owned);
            return Err(Failure::advice(format!("refused: {message}"), Vec::new()));
        }
        Err(error) => return Ok(End::Lost(error.to_string())),
    };
    let subscribe = json!({"type": "subscribe", "topics": [topic], "after_seq": seq});
    if let Err(error) = socket.send(Message::text(subscribe.to_string())).await {
        return Ok(End::Lost(error.to_string()));
    }
    while let Some(message) = socket.next().await {
        match message {
            Ok(Message::Text(line)) => {
                let event: Value = serde_json::from_str(&line).unwrap_or(Value::Null);
                let Some(number) = event["seq"].as_u64() else {
                    if event["type"] == "error" {
                        eprintln!("the server says: {}", text(&event, "message"));
                    }
                    continue;
                };
                *seq = Some(number);
                print(&match output {
                    Output::Json => format!("{line}\n"),
                    Output::Table => shown(&event),
                });
                if is_end(&event) {
                    return Ok(End::Conference);
                }
            }
            Ok(Message::Close(frame)) => {
                return Ok(End::Lost(frame.map_or("closed".to_owned(), |frame| frame.reason.to_string())));
            }
            Ok(_) => {}
            Err(error) => return Ok(End::Lost(error.to_string())),
        }
    }
    Ok(End::Lost("closed".to_owned()))
}

/// Whether nothing comes after this event but what its owner does to it.
fn is_end(event: &Value) -> bool {
    event["type"].as_str().is_some_and(|kind| kind.starts_with("conference_"))
        && event["data"]["status"] == "terminated"
}

/// An event on one line: when, which number, what, and the fields that tell most.
fn shown(event: &Value) -> String {
    let data = &event["data"];
    let who = match text(&data["source"], "target") {
        target if target.is_empty() => text(data, "name"),
        target => target,
    };
    let more =
        [text(data, "status"), who, text(data, "message"), text(data, "digit"), text(data, "hangup_cause")];
    let more: Vec<String> = more.iter().filter(|part| !part.is_empty()).map(|part| plain(part)).collect();
    format!(
        "{}  {:>5}  {:<24}  {}\n",
        second(&text(event, "tm_event")),
        event["seq"].as_u64().unwrap_or_default(),
        text(event, "type"),
        more.join("  ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line() {
        let event = json!({"type": "conferencecall_joined", "seq": 7, "tm_event": "2026-01-01 00:00:00.5",
            "data": {"status": "joined", "source": {"target": "sip:a@b\u{1b}c"}}});
        assert_eq!(
            shown(&event),
            "2026-01-01 00:00:00      7  conferencecall_joined     joined  sip:a@b c\n"
        );
        assert!(!is_end(&event));
        assert!(is_end(&json!({"type": "conference_updated", "data": {"status": "terminated"}})));
        assert!(!is_end(&json!({"type": "recording_finished", "data": {"status": "terminated"}})));
    }
}
