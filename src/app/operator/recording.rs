//! `confab recording list|show|start|stop|pause|resume|delete`.

use std::process::ExitCode;

use hyper::Method;
use serde_json::{Value, json};

use super::client::Client;
use super::conference::{all, escaped, path as conference_path, pretty, second, text};
use super::options::{NewRecording, Output};
use super::table::{list as lines, table};
use crate::app::failure::Failure;
use crate::app::ready::print;

pub(super) async fn list(
    client: &Client,
    output: Output,
    conference: Option<&str>,
) -> Result<ExitCode, Failure> {
    let of = conference.map_or(String::new(), |id| format!("reference_id={}", escaped(Some(id))));
    let rows = all(client, &format!("/recordings?{of}")).await?;
    print(&match output {
        Output::Json => pretty(&Value::Array(rows)),
        Output::Table => {
            let rows: Vec<Vec<String>> = rows.iter().map(row).collect();
            table(&["ID", "STATUS", "FORMAT", "STARTED", "LENGTH", "SIZE", "CONFERENCE"], &rows)
        }
    });
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn show(client: &Client, output: Output, id: &str) -> Result<ExitCode, Failure> {
    let recording = client.call(Method::GET, &path(id), None).await?;
    let files = match output {
        Output::Json => Value::Null,
        Output::Table => client.call(Method::GET, &format!("{}/files", path(id)), None).await?,
    };
    print(&shown(output, &recording, files["result"].as_array().map_or(&[], Vec::as_slice)));
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn start(client: &Client, output: Output, new: &NewRecording) -> Result<ExitCode, Failure> {
    let mut body = json!({ "format": new.format, "duration": new.duration, "tracks": new.tracks });
    if let Some(flow) = &new.on_end_flow {
        body["on_end_flow_id"] = json!(flow);
    }
    let order = format!("{}/recording_start", conference_path(&new.conference));
    let conference = client.call(Method::POST, &order, Some(&body)).await?;
    let recording = client.call(Method::GET, &path(&text(&conference, "recording_id")), None).await?;
    print(&shown(output, &recording, &[]));
    Ok(ExitCode::SUCCESS)
}

/// Stops, pauses or resumes what runs, and shows it.
pub(super) async fn change(
    client: &Client,
    output: Output,
    conference: &str,
    action: &str,
) -> Result<ExitCode, Failure> {
    let of = conference_path(conference);
    // Once it is stopped, the conference does not name it as the one that runs.
    let before = client.call(Method::GET, &of, None).await?;
    client.call(Method::POST, &format!("{of}/recording_{action}"), None).await?;
    let recording = client.call(Method::GET, &path(&text(&before, "recording_id")), None).await?;
    print(&shown(output, &recording, &[]));
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn delete(client: &Client, output: Output, id: &str) -> Result<ExitCode, Failure> {
    let deleted = client.call(Method::DELETE, &path(id), None).await?;
    print(&shown(output, &deleted, &[]));
    Ok(ExitCode::SUCCESS)
}

/// The path of a recording; an id that is none is for the server to refuse.
pub(super) fn path(id: &str) -> String {
    format!("/recordings/{}", escaped(Some(id)))
}

fn row(recording: &Value) -> Vec<String> {
    vec![
        text(recording, "id"),
        status(recording),
        text(recording, "format"),
        second(&text(recording, "tm_start")),
        length(recording),
        size(recording),
        text(recording, "reference_id"),
    ]
}

fn shown(output: Output, recording: &Value, files: &[Value]) -> String {
    if output == Output::Json {
        return pretty(recording);
    }
    let tracks = if recording["tracks"] == true { "one for each caller" } else { "no" };
    let mut told = lines(&[
        ("id", text(recording, "id")),
        ("conference", text(recording, "reference_id")),
        ("status", status(recording)),
        ("cause", text(recording, "cause")),
        ("format", text(recording, "format")),
        ("tracks", tracks.to_owned()),
        ("started", second(&text(recording, "tm_start"))),
        ("ended", second(&text(recording, "tm_end"))),
        ("length", length(recording)),
        ("size", size(recording)),
    ]);
    if !files.is_empty() {
        let rows: Vec<Vec<String>> = files.iter().map(file_row).collect();
        told.push('\n');
        told.push_str(&table(&["FILE", "SIZE", "STATE", "TRIED", "TRACK OF"], &rows));
    }
    told
}

fn file_row(file: &Value) -> Vec<String> {
    let track = text(file, "track");
    let of = if track == uuid::Uuid::nil().to_string() { String::new() } else { track };
    vec![text(file, "name"), size(file), text(file, "state"), file["attempts"].to_string(), of]
}

fn status(recording: &Value) -> String {
    if recording["paused"] == true { "paused".to_owned() } else { text(recording, "status") }
}

/// How long it is: `1:02:03`, empty while that is not known.
fn length(recording: &Value) -> String {
    match recording["duration_ms"].as_u64().unwrap_or(0) / 1000 {
        0 if recording["status"] != "ended" => String::new(),
        seconds => format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60),
    }
}

/// Bytes as people read them; empty while they are not known.
fn size(of: &Value) -> String {
    match of["size_bytes"].as_u64().unwrap_or(0) {
        0 => String::new(),
        bytes => indicatif::HumanBytes(bytes).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_is_told_with_its_files() {
        let recording = json!({"id": "an-id", "reference_id": "a-conference", "status": "ended", "format": "ogg",
            "duration_ms": 3_723_999, "size_bytes": 1_048_576, "tm_start": "2026-01-01 00:00:00.5", "tracks": true});
        let files = [json!({"name": "an-id.ogg", "size_bytes": 1_048_576, "state": "waiting",
            "track": "00000000-0000-0000-0000-000000000000", "attempts": 3})];
        let told = shown(Output::Table, &recording, &files);
        for part in ["1:02:03\n", "1.00 MiB\n", "2026-01-01 00:00:00\n", "an-id.ogg", "waiting"] {
            assert!(told.contains(part), "{part} in {told}");
        }
        assert!(!told.contains("00000000-"), "{told}");
        let running = json!({"status": "recording", "paused": true, "duration_ms": 0, "size_bytes": 0});
        assert_eq!(row(&running)[1..5], ["paused", "", "", ""].map(str::to_owned));
    }
}
