//! A media stream in a room with a phone: each hears the other.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::tungstenite::Message;

use crate::process::{Folder, Program, command};
use crate::server::Server;
use crate::sound::{Heard, tone};

/// How long the stream lasts.
const LASTS: Duration = Duration::from_secs(4);
/// Bytes of 20 ms.
const MESSAGE: usize = 320;

#[test]
fn a_stream_and_a_phone_hear_each_other_and_both_are_recorded() {
    let server = Server::start();
    let folder = Folder::new("stream");
    let conference = server.conference("conference");
    let recorded = folder.path().join("heard.wav");
    let mut call = command(env!("CARGO_BIN_EXE_confab"));
    call.args(["call", &conference.uri(), "--quiet", "--tone", "440", "--record"]).arg(&recorded);
    let mut phone = Program::start("confab", "none: cargo builds it", folder.path(), &mut call);
    conference.wait_for_joined(1);
    let recording = conference.record(&serde_json::json!({}));
    let path = format!("/conferences/{}/media_stream?encapsulation=sln", conference.id);
    let request = server.socket(&path);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let heard = runtime.block_on(async {
        let (socket, _) = tokio_tungstenite::connect_async(request).await.expect("a stream");
        let (mut say, mut hear) = socket.split();
        let speak = async {
            let said: Vec<u8> = tone(1000, 60).iter().flat_map(|sample| sample.to_le_bytes()).collect();
            let mut every = tokio::time::interval(Duration::from_millis(20));
            for message in said.chunks(MESSAGE) {
                every.tick().await;
                if say.send(Message::binary(message.to_vec())).await.is_err() {
                    break;
                }
            }
        };
        let mut heard: Vec<i16> = Vec::new();
        let listen = async {
            while let Some(Ok(message)) = hear.next().await {
                let bytes = message.into_data();
                assert_eq!(bytes.len(), MESSAGE);
                heard.extend(bytes.chunks(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])));
            }
        };
        let both = async { tokio::join!(speak, listen) };
        // It goes on for ever: it is cut off.
        let _ = tokio::time::timeout(LASTS, both).await;
        heard
    });
    assert!(heard.len() > 8000 * 3, "{} samples in {LASTS:?}", heard.len());
    let heard = Heard::of(heard);
    heard.assert_hears("the stream", 440);
    heard.assert_does_not_hear("the stream", 1000);
    conference.recording("stop");
    server.wait_for_recording(&recording, "ended");
    let file = folder.path().join("recording.wav");
    std::fs::write(&file, server.file(&recording)).expect("the folder is ours");
    let in_file = Heard::recorded(&file);
    in_file.assert_hears("the recording", 440);
    in_file.assert_hears("the recording", 1000);
    phone.signal(libc::SIGINT);
    phone.wait(Duration::from_secs(10));
    Heard::recorded(&recorded).assert_hears("the phone", 1000);
}
