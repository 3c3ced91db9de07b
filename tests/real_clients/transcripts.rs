//! Two phones speak in a conference that is being transcribed: what each said is there, by its name, and was
//! shown while it was said. Needs the speech models: `make models`. Then the same with recognisers elsewhere,
//! which the test plays.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{self, Message};

use crate::process::{Folder, Program, command, wait_for};
use crate::server::{Conference, Server, text};
use crate::sound::{RATE_HZ, write_samples};

/// The names of the phones.
const PHONES: [&str; 2] = ["phone-0", "phone-1"];
/// How long a phone stays: its sentence and a while.
const CALL: &str = "9s";
/// How long transcripts may take on a machine that does other things as well.
const LIMIT: Duration = Duration::from_secs(60);

/// Writes a sentence of the embedded voice, after a second in which the call is set up.
fn write_speech(path: &Path, words: &str) {
    write_sentences(path, &[words]);
}

/// Writes sentences of the embedded voice, each after a second of silence.
fn write_sentences(path: &Path, sentences: &[&str]) {
    let voice = flite_rs::Engine::new();
    let spoken = sentences.iter().flat_map(|words| {
        let speech = voice.synthesize(words);
        assert_eq!(speech.sample_rate, RATE_HZ);
        std::iter::repeat_n(0, RATE_HZ as usize).chain(speech.samples)
    });
    write_samples(path, spoken);
}

/// What a WebSocket is told of a conference.
struct Events(Arc<Mutex<Vec<Value>>>);

impl Events {
    fn of(server: &Server, conference: &Conference<'_>) -> Events {
        let stream = TcpStream::connect(server.http()).expect("it listens");
        let (mut socket, _) = tungstenite::client(server.socket("/ws"), stream).expect("a WebSocket");
        let topic =
            format!("customer_id:{}:conference:{}", text(&conference.now(), "customer_id"), conference.id);
        let subscribe = json!({"type": "subscribe", "topics": [topic]}).to_string();
        socket.send(Message::text(subscribe)).expect("it takes it");
        let told = Arc::<Mutex<Vec<Value>>>::default();
        let kept = told.clone();
        // It ends with the server.
        std::thread::spawn(move || {
            while let Ok(message) = socket.read() {
                if let Ok(event) = serde_json::from_str(message.to_text().unwrap_or_default()) {
                    kept.lock().expect("nobody panics").push(event);
                }
            }
        });
        Events(told)
    }

    /// What was told of this type.
    fn told(&self, kind: &str) -> Vec<Value> {
        let told = self.0.lock().expect("nobody panics");
        told.iter().filter(|event| event["type"] == kind).cloned().collect()
    }

    /// Each partial transcript comes before the event of its transcript, and has its id, time and caller.
    fn assert_shown_first(&self, transcript: &Value) {
        let told = self.0.lock().expect("nobody panics");
        let place = |kind: &str| {
            told.iter().position(|event| event["type"] == kind && event["data"]["id"] == transcript["id"])
        };
        let (shown, created) = (place("transcript_partial"), place("transcript_created"));
        let (Some(shown), Some(created)) = (shown, created) else { panic!("{transcript:#} in {told:#?}") };
        assert!(shown < created, "{told:#?}");
        for field in ["conferencecall_id", "transcribe_id", "tm_transcript", "direction", "customer_id"] {
            assert_eq!(told[shown]["data"][field], transcript[field], "{field}");
        }
    }
}

/// Letters and digits only, digits as words.
fn plain(message: &str) -> String {
    const DIGITS: [&str; 10] =
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
    let spelt = |c: char| match c.to_digit(10) {
        Some(digit) => format!(" {} ", DIGITS[digit as usize]),
        None if c.is_alphabetic() => c.to_lowercase().to_string(),
        None => " ".to_owned(),
    };
    let text: String = message.chars().map(spelt).collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn two_phones_speak_and_each_is_named_with_what_it_said() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/encoder_model.onnx");
    assert!(models.exists(), "the speech models are needed: run `make models`");
    let (server, folder) = (Server::start(), Folder::new("transcripts"));
    let conference = server.conference("conference");
    let path = format!("/conferences/{}", conference.id);
    let started =
        server.api("POST", &format!("{path}/transcribe_start"), Some(&json!({"language": "en-US"})));
    let transcribe = text(&started, "transcribe_id");
    let events = Events::of(&server, &conference);

    let said = ["one two three four five", "the boy was there when the sun rose"];
    let mut phones: Vec<(Program, String)> = Vec::new();
    for (number, words) in said.iter().enumerate() {
        let wav = folder.path().join(format!("{number}.wav"));
        write_speech(&wav, words);
        let mut call = command(env!("CARGO_BIN_EXE_confab"));
        call.args(["call", &conference.uri(), "--for", CALL, "--play"]).arg(wav);
        let program = Program::start(PHONES[number], "none: cargo builds it", folder.path(), &mut call);
        let joined = conference.wait_for_joined(number + 1);
        let known: Vec<&String> = phones.iter().map(|(_, call)| call).collect();
        let new = joined.iter().map(|call| text(call, "id")).find(|id| !known.contains(&id));
        phones.push((program, new.expect("one more is in")));
    }

    let list = format!("/transcripts?transcribe_id={transcribe}");
    let heard_of = |call: &str| -> Vec<Value> {
        let page = server.api("GET", &list, None);
        let rows = page["result"].as_array().expect("a list").clone();
        rows.into_iter().filter(|row| row["conferencecall_id"] == call).collect()
    };
    for ((_, call), words) in phones.iter().zip(said) {
        wait_for(format!("{words:?} of {call}"), LIMIT, || {
            heard_of(call).iter().any(|row| plain(&text(row, "message")).contains(words)).then_some(())
        });
        for row in heard_of(call) {
            assert_eq!(
                (text(&row, "transcribe_id"), text(&row, "direction")),
                (transcribe.clone(), "in".into())
            );
            assert!(text(&row, "tm_transcript") < text(&row, "tm_create"), "{row:#}");
            events.assert_shown_first(&row);
        }
    }

    let stopped = server.api("POST", &format!("{path}/transcribe_stop"), None);
    assert_eq!(
        (&stopped["transcribe_id"], &stopped["transcribe_ids"]),
        (&json!(uuid_nil()), &json!([transcribe]))
    );
    wait_for("the transcription to be done", LIMIT, || {
        let now = server.api("GET", &format!("/transcribes/{transcribe}"), None);
        (now["status"] == "done").then_some(())
    });
}

fn uuid_nil() -> String {
    uuid::Uuid::nil().to_string()
}

/// Has one phone speak in a conference that a recogniser at `url` transcribes; gives what was kept, and what
/// was told.
fn transcribed_by(url: String) -> (Value, Events) {
    let key = ("CONFAB_TRANSCRIBE_KEY", "a-key".to_owned());
    let server = Server::start_set(vec![("CONFAB_TRANSCRIBE_URL", url), key]);
    let (folder, conference) = (Folder::new("elsewhere"), server.conference("conference"));
    let path = format!("/conferences/{}/transcribe_start", conference.id);
    let started = server.api("POST", &path, Some(&json!({"language": "de-DE"})));
    let transcribe = text(&started, "transcribe_id");
    let events = Events::of(&server, &conference);
    let wav = folder.path().join("said.wav");
    write_speech(&wav, "the boy was there when the sun rose");
    let mut call = command(env!("CARGO_BIN_EXE_confab"));
    call.args(["call", &conference.uri(), "--for", CALL, "--play"]).arg(&wav);
    let phone = Program::start("phone", "none: cargo builds it", folder.path(), &mut call);
    let list = format!("/transcripts?transcribe_id={transcribe}");
    let row = wait_for("a transcript", LIMIT, || server.api("GET", &list, None)["result"].get(0).cloned());
    server.api("POST", &format!("/transcribes/{transcribe}/stop"), None);
    let done = wait_for("the transcription to be done", LIMIT, || {
        let now = server.api("GET", &format!("/transcribes/{transcribe}"), None);
        (now["status"] == "done").then_some(now)
    });
    assert_eq!(done["provider"], row["message"].as_str().expect("text").split(' ').next().expect("a word"));
    wait_for("its event", LIMIT, || events.told("transcript_created").first().cloned());
    drop(phone);
    (row, events)
}

#[test]
fn a_phone_is_transcribed_by_a_recogniser_reached_by_http() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let url = format!("http://{}/v1/audio/transcriptions", listener.local_addr().expect("bound"));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let (mut got, mut buffer) = (Vec::new(), [0; 4096]);
            while !got.ends_with(b"--\r\n") {
                match stream.read(&mut buffer) {
                    Ok(0) | Err(_) => break,
                    Ok(length) => got.extend_from_slice(&buffer[..length]),
                }
            }
            let wav = got.windows(4).position(|four| four == b"RIFF").expect("a WAV");
            let samples = (got.len() - wav) / 2;
            let language = String::from_utf8_lossy(&got).contains("\r\n\r\nde\r\n");
            let body = json!({"text": format!("http {language} {}", samples > 8_000)}).to_string();
            let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length:";
            let _ = stream.write_all(format!("{head} {}\r\n\r\n{body}", body.len()).as_bytes());
        }
    });
    let (row, events) = transcribed_by(url);
    assert_eq!(row["message"], "http true true", "more than a second of it");
    assert!(events.told("transcript_partial").is_empty(), "each would be sent anew");
}

#[test]
fn a_phone_is_transcribed_by_a_recogniser_that_listens_along_by_websocket() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let url = format!("ws://{}", listener.local_addr().expect("bound"));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut socket = tungstenite::accept(stream).expect("a WebSocket");
                let mut bytes = 0;
                loop {
                    let answer = match socket.read() {
                        Ok(Message::Binary(sound)) => {
                            bytes += sound.len();
                            json!({"partial": format!("websocket {} ms", bytes / 16)})
                        }
                        Ok(Message::Text(text)) if text.as_str() == "{\"eof\" : 1}" => {
                            json!({"text": format!("websocket {}", bytes > 16_000)})
                        }
                        Ok(_) => continue,
                        Err(_) => return,
                    };
                    if socket.send(Message::text(answer.to_string())).is_err() {
                        return;
                    }
                }
            });
        }
    });
    let (row, events) = transcribed_by(url);
    assert_eq!(row["message"], "websocket true", "more than a second of it");
    events.assert_shown_first(&row);
}

/// Five phones speak at once, sentences of all lengths. Prints the delay from the end of each utterance to
/// its text.
#[test]
#[ignore = "it measures: `cargo test --release --test real_clients delay -- --ignored --nocapture`, alone"]
fn delay_of_the_text_of_five_callers() {
    const SENTENCES: [&str; 6] = [
        "one two three four five",
        "the boy was there when the sun rose",
        "nine one one",
        "the source of the huge river is the clear spring, and a pot of tea helps to pass the evening",
        "kick the ball straight and follow through",
        "the girl at the booth sold fifty bonds to the man who was thrown beside the parked truck",
    ];
    let server = Server::start_set(vec![("CONFAB_LOG", "debug".to_owned())]);
    let (folder, conference) = (Folder::new("delay"), server.conference("conference"));
    let path = format!("/conferences/{}/transcribe_start", conference.id);
    server.api("POST", &path, Some(&json!({"language": "en"})));
    let mut phones = Vec::new();
    for number in 0..5 {
        let wav = folder.path().join(format!("{number}.wav"));
        // A full stop each: the voice pauses. Each caller begins elsewhere.
        let said: Vec<&str> =
            (0..SENTENCES.len()).map(|n| SENTENCES[(n + number) % SENTENCES.len()]).collect();
        write_sentences(&wav, &said);
        let mut call = command(env!("CARGO_BIN_EXE_confab"));
        call.args(["call", &conference.uri(), "--for", "40s", "--play"]).arg(wav);
        phones.push(Program::start("phone", "none: cargo builds it", folder.path(), &mut call));
    }
    for phone in &mut phones {
        phone.wait(Duration::from_secs(120));
    }
    let log = server.log();
    let value = |line: &str| -> Option<u64> {
        let (_, rest) = line.split_once("delay_ms=")?;
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    let mut delays: Vec<u64> = log.lines().filter_map(value).collect();
    delays.sort_unstable();
    assert!(delays.len() >= 25, "{} utterances\n{log}", delays.len());
    let at = |share: usize| delays[(delays.len() - 1) * share / 100];
    println!("{} utterances: delay p50 {} ms, p95 {} ms, most {} ms", delays.len(), at(50), at(95), at(100));
}
