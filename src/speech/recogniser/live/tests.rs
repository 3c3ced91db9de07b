use super::*;
use std::pin::Pin;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

use crate::id::TranscriptId;
use crate::net::http::Trust;
use crate::speech::recogniser::websocket::WebSocketSettings;

const TRANSCRIBE: TranscribeId = TranscribeId(Uuid::from_u128(1));
const CALLER: ConferencecallId = ConferencecallId(Uuid::from_u128(2));
const RATE_HZ: u32 = 8000;
const FRAME: usize = 160;
/// Frames of silence that end an utterance; of the last no sound is sent.
const PAUSE: usize = 30;
/// The longest a task may take to answer.
const SOON: Duration = Duration::from_secs(30);
/// For servers that answer.
const PATIENT: Duration = Duration::from_secs(20);
/// For servers that do not.
const BRIEF: Duration = Duration::from_millis(200);

/// What a server does with the connection of this number.
type Serve = fn(usize, TcpStream) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// A caller's voice and the server that listens to it.
struct Scene {
    runtime: Runtime,
    cutter: Cutter,
    voice: Voice,
    talks: Option<Talks>,
    reports: mpsc::Receiver<SpeechReport>,
    counters: Arc<Counters>,
    rng: Rng,
    fed: i64,
}

impl Scene {
    fn new(timeout: Duration, serve: Serve) -> Scene {
        let runtime = Runtime::new().expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let url = format!("ws://{}", listener.local_addr().expect("bound"));
        runtime.spawn(async move {
            for number in 0.. {
                let Ok((stream, _)) = listener.accept().await else { return };
                tokio::spawn(serve(number, stream));
            }
        });
        Scene::at(url, timeout, runtime)
    }

    fn at(url: String, timeout: Duration, runtime: Runtime) -> Scene {
        let line = Line::new(&WebSocketSettings {
            url,
            key: Some("secret".to_owned()),
            timeout,
            trust: Trust::default(),
        });
        let (told, reports) = mpsc::channel(REPORTS_WAITING_MAX);
        let counters: Arc<Counters> = Arc::default();
        let live = Live::new(line.expect("a line"), runtime.handle().clone(), told, counters.clone());
        let talks = Some(live.talks(TRANSCRIBE, "en-US".into()));
        let (cutter, voice) = (Cutter::new(RATE_HZ), Voice::default());
        Scene { runtime, cutter, voice, talks, reports, counters, rng: Rng::from_number(1), fed: 0 }
    }

    /// Frames of this amplitude.
    fn feed(&mut self, frames: usize, amplitude: i16) {
        let talks = self.talks.as_ref().expect("not finished");
        for _ in 0..frames {
            let heard = Timestamp::from_micros(self.fed * 20_000);
            self.fed += 1;
            let piece = self.cutter.push(heard, &[amplitude; FRAME]);
            self.voice.follow(&self.cutter, (heard, piece.as_ref()), (talks, CALLER), &mut self.rng);
        }
    }

    fn next(&mut self) -> SpeechReport {
        let next = async { tokio::time::timeout(SOON, self.reports.recv()).await };
        self.runtime.block_on(next).expect("in time").expect("a report")
    }

    /// Ends it; gives what was said, partial or not, until it is finished.
    fn finish(&mut self) -> Vec<(TranscriptId, String, bool, i64)> {
        self.voice.end(Timestamp::from_micros(self.fed * 20_000), &self.counters);
        self.talks.take().expect("not finished").finish();
        let mut heard = Vec::new();
        loop {
            match self.next() {
                SpeechReport::Heard { transcript, message, partial, begins, .. } => {
                    heard.push((transcript, message, partial, begins.as_micros()));
                }
                SpeechReport::Finished { transcribe: TRANSCRIBE } => return heard,
                other => panic!("{other:?}"),
            }
        }
    }

    fn count(&self, counter: impl Fn(&Counters) -> &std::sync::atomic::AtomicU64) -> u64 {
        counter(&self.counters).load(Relaxed)
    }
}

fn whole(heard: &[(TranscriptId, String, bool, i64)]) -> Vec<(&str, i64)> {
    heard.iter().filter(|one| !one.2).map(|one| (one.1.as_str(), one.3)).collect()
}

async fn open(stream: TcpStream) -> WebSocketStream<TcpStream> {
    tokio_tungstenite::accept_async(stream).await.expect("a WebSocket")
}

async fn say(socket: &mut WebSocketStream<TcpStream>, text: String) {
    // The client may be gone.
    let _ = socket.send(Message::text(text)).await;
}

/// Says how many frames it got, so far and in the end, as Vosk's server would.
async fn vosk(stream: TcpStream) {
    let mut socket = open(stream).await;
    let mut bytes = 0;
    while let Some(Ok(message)) = socket.next().await {
        match message {
            Message::Binary(sound) => {
                bytes += sound.len();
                say(&mut socket, format!("{{\"partial\":\"{}\"}}", bytes / (2 * FRAME))).await;
            }
            Message::Text(text) if text.as_str() == "{\"eof\" : 1}" => {
                say(&mut socket, format!("{{\"text\":\" {} \"}}", bytes / (2 * FRAME))).await;
                let _ = socket.close(None).await;
                return;
            }
            Message::Text(text) => {
                let config: serde_json::Value = serde_json::from_str(&text).expect("JSON");
                assert_eq!((&config["config"]["sample_rate"], bytes), (&RATE_HZ.into(), 0));
                assert_eq!(config["config"]["language"], "en-US");
            }
            _ => {}
        }
    }
}

#[test]
fn a_voice_goes_out_as_it_comes_and_its_text_comes_back() {
    let mut scene = Scene::new(PATIENT, |_, stream| Box::pin(vosk(stream)));
    scene.feed(50, 0);
    scene.feed(5, 3000);
    assert_eq!(scene.count(|c| &c.talks), 0, "it may be a click");
    scene.feed(25, 3000);
    let SpeechReport::Heard { transcript, partial: true, begins, conferencecall: CALLER, .. } = scene.next()
    else {
        panic!("it is shown while it is said")
    };
    assert_eq!(begins, Timestamp::from_micros(45 * 20_000), "with its pre-roll");
    scene.feed(PAUSE, 0);
    scene.feed(20, 0);
    let first = scene.next();
    let second_begins = scene.fed;
    scene.feed(30, 3000);
    scene.feed(PAUSE, 0);
    let mut heard = scene.finish();
    if let SpeechReport::Heard { transcript, message, partial, begins, .. } = first {
        heard.insert(0, (transcript, message, partial, begins.as_micros()));
    }
    let sent = (5 + 30 + PAUSE - 1).to_string();
    assert_eq!(whole(&heard), [(&*sent, 45 * 20_000), (&*sent, (second_begins - 5) * 20_000)]);
    assert!(heard.iter().any(|(id, _, partial, _)| *id == transcript && !partial), "one transcript");
    assert_eq!((scene.count(|c| &c.utterances), scene.count(|c| &c.failures)), (2, 0));
}

#[test]
fn a_connection_that_is_cut_is_made_anew_and_told_again_what_it_had_not_answered() {
    let mut scene = Scene::new(PATIENT, |number, stream| {
        Box::pin(async move {
            if number > 0 {
                return vosk(stream).await;
            }
            let mut socket = open(stream).await;
            while !matches!(socket.next().await, Some(Ok(Message::Binary(_)))) {}
        })
    });
    scene.feed(40, 3000);
    scene.feed(PAUSE, 0);
    assert_eq!(whole(&scene.finish()), [("69", 0)]);
    assert_eq!((scene.count(|c| &c.connection_failures), scene.count(|c| &c.failures)), (1, 0));
}

#[test]
fn texts_within_a_talk_are_transcripts_of_their_own() {
    let mut scene = Scene::new(PATIENT, |_, stream| {
        Box::pin(async move {
            let mut socket = open(stream).await;
            let said = [("partial", "o"), ("text", "one"), ("partial", "hm"), ("text", "")];
            let mut said = said.iter().map(|(kind, text)| format!("{{\"{kind}\":\"{text}\"}}"));
            while let Some(Ok(message)) = socket.next().await {
                match message {
                    Message::Binary(_) => {
                        if let Some(text) = said.next() {
                            say(&mut socket, text).await;
                        }
                    }
                    Message::Text(text) if text.contains("eof") => {
                        say(&mut socket, "{\"text\":\"two\"}".to_owned()).await;
                        return;
                    }
                    _ => {}
                }
            }
        })
    });
    scene.feed(40, 3000);
    scene.feed(PAUSE, 0);
    let heard = scene.finish();
    let [one, two] = whole(&heard)[..] else { panic!("{heard:?}") };
    assert_eq!((one, two.0), (("one", 0), "two"));
    assert!(two.1 > 0 && two.1 <= (40 + PAUSE as i64) * 20_000, "{heard:?}");
    let ids: Vec<TranscriptId> = heard.iter().filter(|one| !one.2).map(|one| one.0).collect();
    assert_ne!(ids[0], ids[1]);
    let of_hm = heard.iter().find(|one| one.1 == "hm").expect("it is shown").0;
    let taken_back = heard.iter().find(|one| one.1.is_empty()).expect("it came to nothing");
    assert_eq!((taken_back.0, taken_back.2), (of_hm, true));
}

/// Has one say something to a server that gives no text for it; the transcription is finished all the same.
fn fails(mut scene: Scene) -> Scene {
    scene.feed(40, 3000);
    scene.feed(PAUSE, 0);
    let heard = scene.finish();
    assert!(whole(&heard).is_empty(), "{heard:?}");
    if let Some(shown) = heard.iter().rev().find(|one| one.2) {
        assert_eq!(shown.1, "", "what was shown is taken back");
    }
    assert_eq!((scene.count(|c| &c.failures), scene.count(|c| &c.utterances)), (1, 0));
    assert!(scene.count(|c| &c.connection_failures) >= 1);
    scene
}

#[test]
fn servers_that_answer_nothing_or_nonsense_or_are_not_there_fail_this_talk_only() {
    let silent: Serve = |_, stream| {
        Box::pin(async move {
            let mut socket = open(stream).await;
            while let Some(Ok(_)) = socket.next().await {}
        })
    };
    let deaf: Serve = |_, stream| {
        Box::pin(async move {
            tokio::time::sleep(SOON).await;
            drop(stream);
        })
    };
    let garbage: Serve = |_, stream| {
        Box::pin(async move {
            let mut socket = open(stream).await;
            say(&mut socket, "what?".to_owned()).await;
            while let Some(Ok(_)) = socket.next().await {}
        })
    };
    let binary: Serve = |_, stream| {
        Box::pin(async move {
            let mut socket = open(stream).await;
            let _ = socket.send(Message::binary(vec![0; 10])).await;
            while let Some(Ok(_)) = socket.next().await {}
        })
    };
    let endless: Serve = |_, stream| {
        Box::pin(async move {
            let mut socket = open(stream).await;
            say(&mut socket, format!("{{\"partial\":\"{}\"}}", "x".repeat(1 << 17))).await;
            while let Some(Ok(_)) = socket.next().await {}
        })
    };
    let shows_only: Serve = |_, stream| {
        Box::pin(async move {
            let mut socket = open(stream).await;
            say(&mut socket, "{\"partial\":\"well\"}".to_owned()).await;
            while let Some(Ok(_)) = socket.next().await {}
        })
    };
    for serve in [silent, deaf, garbage, binary, endless, shows_only] {
        fails(Scene::new(BRIEF, serve));
    }
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("ws://{}", nobody.local_addr().expect("bound"));
    drop(nobody);
    fails(Scene::at(url, BRIEF, Runtime::new().expect("a runtime")));
}

#[test]
fn a_server_that_lags_is_left_behind_and_counted() {
    let mut scene = Scene::new(PATIENT, |_, stream| {
        Box::pin(async move {
            tokio::time::sleep(SOON).await;
            drop(stream);
        })
    });
    scene.feed(FRAMES_WAITING_MAX, 3000);
    assert_eq!(scene.count(|c| &c.utterances_dropped), 0);
    scene.feed(100, 3000);
    assert_eq!(scene.count(|c| &c.utterances_dropped), 1, "once a talk");
    for _ in 1..TALKS_MAX + 3 {
        let (mut cutter, mut voice) = (Cutter::new(RATE_HZ), Voice::default());
        let talks = scene.talks.as_ref().expect("not finished");
        for _ in 0..20 {
            let heard = Timestamp::from_micros(0);
            let piece = cutter.push(heard, &[3000; FRAME]);
            voice.follow(&cutter, (heard, piece.as_ref()), (talks, CALLER), &mut scene.rng);
        }
    }
    assert_eq!(scene.count(|c| &c.talks), TALKS_MAX as u64);
    assert_eq!(scene.count(|c| &c.utterances_dropped), 1 + 3, "once a voice");
}

#[test]
fn a_talk_does_not_go_on_for_ever() {
    let mut scene = Scene::new(PATIENT, |_, stream| Box::pin(vosk(stream)));
    // No faster than it is taken, or it would lag.
    for _ in 0..TALK_FRAMES_MAX / 100 + 1 {
        scene.feed(100, 3000);
        let talk = scene.voice.talk.as_ref().expect("it goes on");
        let chunks = talk.chunks.clone().expect("it is taken");
        scene.runtime.block_on(async {
            while chunks.capacity() < FRAMES_WAITING_MAX / 2 {
                tokio::task::yield_now().await;
            }
        });
    }
    assert!(scene.voice.talk.as_ref().is_some_and(|talk| talk.frames < TALK_FRAMES_MAX));
    let heard = scene.finish();
    assert_eq!(whole(&heard).len(), 2, "{:?}", whole(&heard));
    assert_eq!(scene.count(|c| &c.utterances_dropped), 0);
}
