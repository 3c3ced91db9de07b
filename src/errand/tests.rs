//! Errands against servers of the test's own.

use std::io::Cursor;
use std::sync::atomic::AtomicUsize;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use super::*;
use crate::media::room::RATE_HZ;

fn open() -> Errands {
    Errands::new(Settings { allow_private: true, ..Settings::default() }).expect("TLS")
}

fn request(url: String) -> Errand {
    Errand::Http { method: Method::Post, url, content_type: "text/plain".to_owned(), body: "x".to_owned() }
}

async fn result(errands: &Errands, errand: Errand) -> ErrandResult {
    let (tell, told) = tokio::sync::oneshot::channel();
    let refused =
        errands.start(CustomerId::NIL, errand, move |result| async move { drop(tell.send(result)) });
    assert_eq!(refused, None);
    told.await.expect("every errand has a result")
}

#[tokio::test]
async fn private_addresses_are_asked_only_where_allowed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let guarded = Errands::new(Settings::default()).expect("TLS");
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"] {
        let ErrandResult::Failed(why) = result(&guarded, request(format!("http://{host}:{port}/"))).await
        else {
            panic!("{host} was asked")
        };
        assert!(why.contains("private"), "{host}: {why}");
    }
    let allowed = open();
    let answering = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut request = [0; 4096];
        let length = stream.read(&mut request).await.expect("a request");
        let long = "y".repeat(ANSWER_MAX_BYTES + 1);
        let answer = format!("HTTP/1.1 404 Not Found\r\nContent-Length: {}\r\n\r\n{long}", long.len());
        let _ = stream.write_all(answer.as_bytes()).await;
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    let ErrandResult::Http { status, body, .. } =
        result(&allowed, request(format!("http://127.0.0.1:{port}/path"))).await
    else {
        panic!("no answer")
    };
    assert_eq!((status, body.len()), (404, ANSWER_MAX_BYTES), "cut at the limit");
    let sent = answering.await.expect("it answered");
    assert!(sent.starts_with("POST /path HTTP/1.1\r\n") && sent.contains("text/plain"), "{sent}");
    assert_eq!((guarded.counters().failed, allowed.counters().done), (3, 1));
}

#[tokio::test]
async fn no_more_than_so_many_run_at_once() {
    // Nobody accepts: the requests wait.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("bound"));
    let errands = open();
    let start = |customer: usize| {
        let customer = CustomerId(uuid::Uuid::from_u128(customer as u128));
        errands.start(customer, request(url.clone()), |_| async {})
    };
    for number in 0..ERRANDS_MAX {
        assert_eq!(start(number / CUSTOMER_ERRANDS_MAX), None);
    }
    assert!(matches!(start(ERRANDS_MAX), Some(ErrandResult::Failed(_))));
    assert_eq!((errands.counters().refused, errands.counters().over_share), (1, 0));
}

/// A server that holds every request to `/slow` until it is told to let go; tells of each that comes
/// how many it holds then.
async fn slow_server(let_go: watch::Receiver<bool>, came: mpsc::UnboundedSender<usize>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let held = Arc::new(AtomicUsize::new(0));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (mut let_go, came, held) = (let_go.clone(), came.clone(), held.clone());
            tokio::spawn(async move {
                if read(&mut stream).await.starts_with("POST /slow") {
                    let _ = came.send(held.fetch_add(1, Relaxed) + 1);
                    let _ = let_go.wait_for(|go| *go).await;
                    held.fetch_sub(1, Relaxed);
                }
                let answer = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    url
}

#[tokio::test]
async fn a_customer_whose_server_hangs_holds_up_no_other() {
    let (go, let_go) = watch::channel(false);
    let (came, mut coming) = mpsc::unbounded_channel();
    let url = slow_server(let_go, came).await;
    let errands = open();
    let [greedy, other] = [1, 2].map(|number| CustomerId(uuid::Uuid::from_u128(number)));
    let (end, mut ended) = mpsc::unbounded_channel();
    let slow = || {
        let end = end.clone();
        errands.start(greedy, request(format!("{url}/slow")), move |result| async move {
            end.send(result).expect("the test waits");
        })
    };
    for _ in 0..CUSTOMER_ERRANDS_MAX {
        assert_eq!(slow(), None);
    }
    let Some(ErrandResult::Failed(why)) = slow() else { panic!("it had more than its share") };
    assert!(why.contains("of your flows are under way"), "{why}");
    assert_eq!((errands.counters().refused, errands.counters().over_share), (0, 1));
    let mut most = 0;
    while most < CUSTOMER_REQUESTS_MAX {
        most = most.max(coming.recv().await.expect("a request"));
    }
    let (tell, told) = tokio::sync::oneshot::channel();
    let begun = errands
        .start(other, request(format!("{url}/fast")), move |result| async move { drop(tell.send(result)) });
    assert_eq!(begun, None);
    let result = told.await.expect("a result");
    assert!(matches!(result, ErrandResult::Http { status: 200, .. }), "{result:?}");
    assert!(ended.try_recv().is_err(), "the other was done while all of the first hang");
    go.send_replace(true);
    for _ in 0..CUSTOMER_ERRANDS_MAX {
        let result = ended.recv().await.expect("a result");
        assert!(matches!(result, ErrandResult::Http { status: 200, .. }), "what waited is done: {result:?}");
    }
    while let Ok(held) = coming.try_recv() {
        most = most.max(held);
    }
    assert_eq!(most, CUSTOMER_REQUESTS_MAX, "never more at once");
}

/// Reads a request whole.
async fn read(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.to_lowercase().lines().find_map(|line| {
                line.strip_prefix("content-length:").and_then(|length| length.trim().parse::<usize>().ok())
            });
            if body.len() >= length.unwrap_or(0) {
                return text;
            }
        }
        assert_ne!(stream.read_buf(&mut bytes).await.expect("a request"), 0, "it broke off: {text}");
    }
}

/// Half a second of a square wave at the room's rate, as a WAV file.
fn sound() -> Vec<u8> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: RATE_HZ,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut file = Cursor::new(Vec::new());
    let mut wav = hound::WavWriter::new(&mut file, spec).expect("a header");
    for index in 0..RATE_HZ / 2 {
        wav.write_sample(if index % 8 < 4 { 8000_i16 } else { -8000 }).expect("in memory");
    }
    wav.finalize().expect("in memory");
    file.into_inner()
}

#[tokio::test]
async fn the_speech_engine_speaks_though_its_address_is_private() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/speak", listener.local_addr().expect("bound"));
    let errands = Errands::new(Settings { speech_url: Some(url), ..Settings::default() }).expect("TLS");
    let engine = tokio::spawn(async move {
        let mut asked = Vec::new();
        let sound = sound();
        for (status, body) in [("200 OK", sound.as_slice()), ("302 Found", b""), ("200 OK", b"no sound")] {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            asked.push(read(&mut stream).await);
            let head = format!(
                "HTTP/1.1 {status}\r\nConnection: close\r\nLocation: /elsewhere\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            stream.write_all(&[head.as_bytes(), body].concat()).await.expect("an answer");
        }
        asked
    });
    let speech = || Errand::Speech { text: "Grüezi.".to_owned(), language: "de-CH".to_owned() };
    let ErrandResult::Clip(clip) = result(&errands, speech()).await else { panic!("it does not speak") };
    assert_eq!(clip.duration(), Duration::from_millis(500));
    assert!(clip.samples().iter().all(|sample| (7900..8100).contains(&sample.abs())), "as it was sent");
    for why in ["the speech engine answered HTTP 302", "no WAV"] {
        let ErrandResult::Failed(told) = result(&errands, speech()).await else { panic!("it speaks") };
        assert!(told.contains(why), "{told}");
    }
    let asked = engine.await.expect("it answered");
    let (head, body) = asked[0].split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("POST /speak HTTP/1.1\r\n") && head.contains("application/json"), "{head}");
    let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
    assert_eq!(body, serde_json::json!({ "text": "Grüezi.", "language": "de-CH" }));
}
