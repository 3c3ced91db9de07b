use super::*;
use crate::net::http::Trust;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread::JoinHandle;

use crate::time::Timestamp;

fn utterance() -> Utterance {
    Utterance { begins: Timestamp::from_micros(0), rate_hz: 8000, samples: vec![1, -2, 3] }
}

/// A server that answers one request and gives what it was sent.
fn server(answer: String) -> (String, JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/v1/audio/transcriptions", listener.local_addr().expect("bound"));
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let (mut got, mut buffer) = (Vec::new(), [0; 4096]);
        let end = format!("--{BOUNDARY}--\r\n");
        while !got.ends_with(end.as_bytes()) {
            let read = stream.read(&mut buffer).expect("a request");
            assert!(read > 0, "it broke off: {}", String::from_utf8_lossy(&got));
            got.extend_from_slice(&buffer[..read]);
        }
        // The client may have stopped reading a long answer.
        let _ = stream.write_all(answer.as_bytes());
        got
    });
    (url, served)
}

/// What an engine says that is answered so, and what it sent.
fn asked(status: &str, body: &str) -> (Result<String, EngineError>, String) {
    let (url, served) = server(format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let settings = HttpEngineSettings {
        url,
        key: Some("secret".to_owned()),
        model: "whisper-1".to_owned(),
        timeout: Duration::from_secs(20),
        trust: Trust::default(),
    };
    let mut engine = HttpEngine::new(settings, runtime.handle().clone()).expect("an engine");
    assert!(!engine.takes_partials());
    let said = engine.recognise(&utterance(), "de-DE", Care::Thorough);
    (said, String::from_utf8_lossy(&served.join().expect("served")).into_owned())
}

#[test]
fn a_wav_a_model_and_a_language_are_sent_and_the_text_is_taken() {
    let (said, sent) = asked("200 OK", r#"{"text":" Guten Tag. ","language":"de"}"#);
    assert_eq!(said.expect("a text"), "Guten Tag.");
    assert!(sent.to_ascii_lowercase().contains("authorization: bearer secret"), "{sent}");
    assert!(sent.contains("name=\"model\"\r\n\r\nwhisper-1\r\n"), "{sent}");
    assert!(sent.contains("name=\"language\"\r\n\r\nde\r\n"), "{sent}");
    assert!(sent.contains("filename=\"utterance.wav\"") && sent.contains("RIFF"), "{sent}");
}

#[test]
fn what_is_no_text_fails_this_utterance_only() {
    let long = format!(r#"{{"text":"{}"}}"#, "x".repeat(ANSWER_MAX));
    for (status, body, why) in [
        ("500 Internal Server Error", "{}", "500"),
        ("302 Found", "", "302"),
        ("200 OK", "hello", "no text"),
        ("200 OK", r#"{"error":1}"#, "no text"),
        ("200 OK", &long, "longer than"),
    ] {
        let (said, _) = asked(status, body);
        let Err(EngineError::Passing(text)) = said else { panic!("{status}: {said:?}") };
        assert!(text.contains(why), "{text}");
    }
}

#[test]
fn one_that_does_not_answer_fails_this_utterance_only() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("bound"));
    let say = |timeout| {
        let settings = HttpEngineSettings {
            url: url.clone(),
            key: None,
            model: String::new(),
            timeout,
            trust: Trust::default(),
        };
        let mut engine = HttpEngine::new(settings, runtime.handle().clone()).expect("an engine");
        engine.recognise(&utterance(), "en", Care::Thorough)
    };
    let said = say(Duration::from_millis(50));
    assert!(matches!(said, Err(EngineError::Passing(ref why)) if why.contains("no answer")), "{said:?}");
    drop(listener);
    assert!(matches!(say(Duration::from_secs(20)), Err(EngineError::Passing(_))), "nobody is there");
}

#[test]
fn the_wav_is_a_wav() {
    let bytes = wav(&utterance()).expect("a file");
    let mut reader = hound::WavReader::new(Cursor::new(bytes)).expect("a WAV");
    assert_eq!(reader.spec().sample_rate, 8000);
    assert_eq!(
        reader.samples::<i16>().map(|sample| sample.expect("16 bits")).collect::<Vec<_>>(),
        [1, -2, 3]
    );
}
