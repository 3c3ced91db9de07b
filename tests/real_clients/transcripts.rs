//! Two phones speak in a conference that is being transcribed: what each said is there, by its name.
//! Needs the speech models: `make models`.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::process::{Folder, Program, command, wait_for};
use crate::server::{Server, text};
use crate::sound::RATE_HZ;

/// The names of the phones.
const PHONES: [&str; 2] = ["phone-0", "phone-1"];
/// How long a phone stays: its sentence and a while.
const CALL: &str = "9s";
/// How long transcripts may take on a machine that does other things as well.
const LIMIT: Duration = Duration::from_secs(60);

/// Writes a sentence of the embedded voice, after a second in which the call is set up.
fn write_speech(path: &Path, words: &str) {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: RATE_HZ,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut file = hound::WavWriter::create(path, spec).expect("the folder is ours");
    let speech = flite_rs::Engine::new().synthesize(words);
    assert_eq!(speech.sample_rate, RATE_HZ);
    for sample in std::iter::repeat_n(0, RATE_HZ as usize).chain(speech.samples) {
        file.write_sample(sample).expect("space for a sentence");
    }
    file.finalize().expect("space for a sentence");
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
