//! Media streams, on a real socket against a room that the test plays.

use std::time::Duration;

use confab::bridge::command::Refusal;
use confab::bridge::stream::StreamEnds;
use confab::plane::feed::{FEED_SAMPLES, FeedReader};
use confab::plane::tap::TapWriter;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::harness::{Api, KEY};

/// How long anything may take on a machine that does other things as well.
const LIMIT: Duration = Duration::from_secs(60);

struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    async fn open(url: &str, conference: &str, encapsulation: &str) -> Result<Socket, Error> {
        let url = format!("{url}/v1.0/conferences/{conference}/media_stream?encapsulation={encapsulation}");
        let mut request = url.into_client_request().expect("a request");
        request.headers_mut().insert("authorization", format!("Bearer {KEY}").parse().expect("a value"));
        tokio_tungstenite::connect_async(request).await.map(|(socket, _)| Socket(socket))
    }

    async fn next(&mut self) -> Message {
        let next = tokio::time::timeout(LIMIT, self.0.next()).await.expect("something comes");
        next.expect("it is open").expect("a message")
    }

    async fn bytes(&mut self) -> Vec<u8> {
        match self.next().await {
            Message::Binary(bytes) => bytes.to_vec(),
            other => panic!("no sound: {other:?}"),
        }
    }

    async fn say(&mut self, bytes: Vec<u8>) {
        self.0.send(Message::binary(bytes)).await.expect("it takes it");
    }
}

/// The room's ends of the one stream that is open.
fn room(api: &Api) -> (FeedReader, TapWriter) {
    let streams: Vec<StreamEnds> = api.streams();
    assert_eq!(streams.len(), 1);
    let feed = streams[0].feed.take_reader().expect("the first");
    (feed, streams[0].tap.take_writer().expect("the first"))
}

fn tick(tap: &mut TapWriter, number: u64, sample: i16) {
    tap.begin(number, 8000);
    tap.mix(&[sample; 160]);
    assert!(tap.commit());
}

/// Waits until the feed gives a frame.
async fn heard(feed: &mut FeedReader) -> [i16; 160] {
    let mut frame = [0; 160];
    let wait = async {
        while !feed.read(&mut frame) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.expect("something is heard");
    frame
}

async fn closed(api: &Api) {
    let wait = async {
        while !api.streams().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.expect("the stream is given back");
}

async fn conference(api: &Api) -> String {
    api.own("POST", "/v1.0/conferences", None).await.json["id"].as_str().expect("an id").to_owned()
}

/// 60 ms of a sample, so that a feed begins, in messages of 20 ms.
fn sound(encapsulation: &str, sample: u8) -> Vec<Vec<u8>> {
    let head: &[u8] = match encapsulation {
        "sln" => &[],
        "rtp" => &[0x80, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9],
        _ => &[0x10, 1, 0x40],
    };
    vec![[head, &[sample, 0].repeat(160)].concat(); 3]
}

#[tokio::test]
async fn sound_goes_both_ways_in_every_encapsulation() {
    let api = Api::new().await;
    let url = api.serve().await;
    for (encapsulation, head) in [("sln", 0), ("rtp", 12), ("audiosocket", 3)] {
        let id = conference(&api).await;
        let mut socket = Socket::open(&url, &id, encapsulation).await.expect("open");
        let (mut feed, mut tap) = room(&api);
        tick(&mut tap, 100, 7);
        let message = socket.bytes().await;
        assert_eq!(message[head..], [7, 0].repeat(160), "{encapsulation}");
        // A tick of silence, and one that comes after three that were lost.
        tap.begin(101, 8000);
        assert!(tap.commit());
        tick(&mut tap, 105, 9);
        assert_eq!(socket.bytes().await[head..], [0; 320]);
        let message = socket.bytes().await;
        assert_eq!(message[head..], [9, 0].repeat(160));
        if encapsulation == "rtp" {
            assert_eq!(message[..4], [0x80, 96, 0, 2]);
            assert_eq!(message[4..8], (5u32 * 160).to_be_bytes());
        }
        for message in sound(encapsulation, 5) {
            socket.say(message).await;
        }
        assert_eq!(heard(&mut feed).await, [5; 160], "{encapsulation}");
        socket.0.close(None).await.expect("closing");
        closed(&api).await;
    }
    let metrics = api.ask("GET", "/metrics").key(crate::harness::ADMIN).send().await.text;
    for line in ["confab_media_streams 0\n", "_streams_total 3\n", "_streams_missed_ticks_total 9\n"] {
        assert!(metrics.contains(line), "{line}");
    }
}

#[tokio::test]
async fn either_side_hangs_up() {
    let api = Api::new().await;
    let url = api.serve().await;
    let id = conference(&api).await;
    let mut socket = Socket::open(&url, &id, "audiosocket").await.expect("open");
    let (_feed, mut tap) = room(&api);
    tick(&mut tap, 1, 3);
    drop(tap);
    assert_eq!(socket.bytes().await[3], 3, "what was said is told to its end");
    assert_eq!(socket.bytes().await, [0, 0, 0]);
    let Message::Close(Some(frame)) = socket.next().await else { panic!("not closed") };
    assert_eq!(u16::from(frame.code), 1000);
    closed(&api).await;
    let mut socket = Socket::open(&url, &id, "audiosocket").await.expect("open");
    let _room = room(&api);
    socket.say(vec![0, 0, 0]).await;
    closed(&api).await;
}

#[tokio::test]
async fn who_sends_faster_than_time_passes_waits_and_loses_nothing() {
    let api = Api::new().await;
    let url = api.serve().await;
    let id = conference(&api).await;
    let mut socket = Socket::open(&url, &id, "sln").await.expect("open");
    let (mut feed, _tap) = room(&api);
    // Four seconds at once; the feed holds one.
    let said: Vec<u8> = (0..4 * FEED_SAMPLES).flat_map(|n| ((n / 7) as i16).to_le_bytes()).collect();
    for piece in said.chunks(16_000) {
        socket.say(piece.to_vec()).await;
    }
    let mut all = Vec::new();
    while all.len() < said.len() - 320 {
        let frame = heard(&mut feed).await;
        all.extend(frame.iter().flat_map(|sample| sample.to_le_bytes()));
        // A room takes its time: the feed is never found dry.
        tokio::time::timeout(Duration::from_millis(12), std::future::pending::<()>())
            .await
            .expect_err("time");
    }
    assert!(all == said[..all.len()], "nothing is lost and nothing is changed");
}

#[tokio::test]
async fn what_cannot_be_is_refused_before_the_upgrade() {
    let api = Api::new().await;
    let url = api.serve().await;
    let id = conference(&api).await;
    let nobody = "c0ffee00-0000-4000-8000-000000000000";
    let status = |opened: Result<Socket, Error>| match opened {
        Err(Error::Http(response)) => response.status().as_u16(),
        Err(other) => panic!("{other}"),
        Ok(_) => 101,
    };
    assert_eq!(status(Socket::open(&url, &id, "mp3").await), 400);
    assert_eq!(status(Socket::open(&url, nobody, "sln").await), 404);
    api.refuse(Some(Refusal::Limit("media streams of one conference")));
    assert_eq!(status(Socket::open(&url, &id, "sln").await), 429);
    api.refuse(None);
    assert!(api.streams().is_empty());
}
