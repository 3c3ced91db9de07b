//! The router with a real store and writer behind it and a bridge that lives in a map; every answer
//! is held against the OpenAPI document.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Request, StatusCode};
use confab::api::{ApiSettings, ApiState, ControlCall, Health, router};
use confab::bridge::command::{Command, ConferenceChange, NewConference, NewRecording, Refusal, Reply};
use confab::bridge::event::{Change, ConferenceRecord};
use confab::bridge::flow::Flow;
use confab::bridge::resource::{
    Address, Conference, ConferenceStatus, Conferencecall, ConferencecallStatus, Recording, RecordingStatus,
};
use confab::bridge::stream::StreamEnds;
use confab::config::DatabaseUrl;
use confab::control::ControlError;
use confab::id::{ConferenceId, ConferencecallId, CustomerId, FlowId, LegId, RecordingId, TapId};
use confab::plane::feed::Feed;
use confab::plane::tap::{Tap, TapParts};
use confab::record::{Folder, Part};
use confab::rng::Rng;
use confab::store::{OutboxChange, Store, Write, spawn_writer};
use confab::time::{Instant, Now, Timestamp};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};
use tower::ServiceExt as _;
use uuid::Uuid;

/// The admin key of every test.
pub const ADMIN: &str = "an-admin-key-of-the-tests";
/// The first customer's access key.
pub const KEY: &str = "vb_00000000000000000000000000000000";
/// Where the clock of every test starts.
const START_S: u64 = 1_700_000_000;

/// A folder that goes when the test does.
pub struct Temporary(pub PathBuf);

impl Temporary {
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("confab-api-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The conferences the fake bridge holds.
#[derive(Default)]
struct Held {
    conferences: BTreeMap<ConferenceId, Conference>,
    calls: BTreeMap<ConferencecallId, Conferencecall>,
    flows: BTreeMap<FlowId, Flow>,
    recordings: BTreeMap<RecordingId, Recording>,
    /// Every stream there ever was, and whether it is open.
    streams: Vec<(StreamEnds, bool)>,
    refusal: Option<Refusal>,
    failure: Option<ControlError>,
    panics: bool,
}

/// An answer, taken apart.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
    pub json: Value,
}

impl Answer {
    /// (HTTP code, reason) of a failure.
    pub fn reason(&self) -> (u16, &str) {
        (self.status.as_u16(), self.json["error"]["reason"].as_str().unwrap_or("none"))
    }
}

/// The whole of it.
pub struct Api {
    router: Router,
    document: Value,
    pub store: Store,
    pub customer: CustomerId,
    held: Arc<Mutex<Held>>,
    writer: mpsc::Sender<Write>,
    clock_us: Arc<AtomicU64>,
    pub health: Arc<Mutex<Vec<String>>>,
    folder: Temporary,
}

/// One request being put together.
pub struct Ask<'a> {
    api: &'a Api,
    request: axum::http::request::Builder,
    body: Vec<u8>,
    ip: SocketAddr,
}

impl Ask<'_> {
    pub fn key(self, key: &str) -> Self {
        self.header("authorization", &format!("Bearer {key}"))
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    pub fn json(self, body: &Value) -> Self {
        self.raw(&body.to_string())
    }

    pub fn raw(self, body: &str) -> Self {
        let mut asked = self.header("content-type", "application/json");
        asked.body = body.as_bytes().to_vec();
        asked
    }

    pub fn body(mut self, body: &str) -> Self {
        self.body = body.as_bytes().to_vec();
        self
    }

    pub fn from(mut self, ip: &str) -> Self {
        self.ip = SocketAddr::new(ip.parse().expect("an address"), 1);
        self
    }

    /// Sends it and holds the answer against the document.
    pub async fn send(self) -> Answer {
        let mut request = self.request.body(Body::from(self.body)).expect("a request");
        request.extensions_mut().insert(ConnectInfo(self.ip));
        let (method, path) = (request.method().as_str().to_lowercase(), request.uri().path().to_owned());
        let response = self.api.router.clone().oneshot(request).await.expect("a router never fails");
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = axum::body::to_bytes(response.into_body(), 16 << 20).await.expect("a body");
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        let answer = Answer { status, headers, text, json };
        self.api.hold_against_document(&method, &path, &answer);
        answer
    }
}

impl Api {
    pub async fn new() -> Api {
        Self::with(ApiSettings::default()).await
    }

    pub async fn with(settings: ApiSettings) -> Api {
        let folder = Temporary::new();
        let address = crate::postgres::address_for(&folder.0).await;
        let address = address.map(|address| DatabaseUrl::parse(&address).expect("an address"));
        let store = Store::open_at(&folder.0, address.as_ref()).await.expect("a new store");
        let clock_us = Arc::new(AtomicU64::new(START_S * 1_000_000));
        let mut rng = Rng::from_number(7);
        let now = Timestamp::from_micros((START_S * 1_000_000) as i64);
        let made = store
            .bootstrap(Some(KEY.to_owned()), Some(ADMIN.to_owned()), now, &mut rng)
            .await
            .expect("bootstrap");
        let (writer, _) = spawn_writer(store.clone());
        let held = Arc::new(Mutex::new(Held::default()));
        let health = Arc::new(Mutex::new(Vec::new()));
        let clock: Arc<dyn Fn() -> Now + Send + Sync> = {
            let clock_us = clock_us.clone();
            Arc::new(move || {
                let micros = clock_us.load(Ordering::Relaxed);
                Now {
                    instant: Instant::from_nanos(micros * 1000),
                    wall: Timestamp::from_micros(micros as i64),
                }
            })
        };
        let state = ApiState {
            control: control(held.clone(), writer.clone(), clock.clone()),
            store: store.clone(),
            writer: writer.downgrade(),
            health: {
                let health = health.clone();
                Arc::new(move || Health { reasons: health.lock().expect("health").clone() })
            },
            metrics: Arc::new(|| "confab_calls 0\n".to_owned()),
            clock,
            rng,
            recordings: Folder::open(&folder.0).expect("a folder"),
            storage: None,
            settings: watch::channel(settings).1,
        };
        let router = router(state);
        let mut api = Api {
            router,
            document: Value::Null,
            store,
            customer: made.customer_id,
            held,
            writer,
            clock_us,
            health,
            folder,
        };
        let request = Request::get("/openapi.json").body(Body::empty()).expect("a request");
        let response = api.router.clone().oneshot(request).await.expect("a router never fails");
        let bytes = axum::body::to_bytes(response.into_body(), 16 << 20).await.expect("a body");
        api.document = serde_json::from_slice(&bytes).expect("the document is JSON");
        api
    }

    pub fn ask(&self, method: &str, path: &str) -> Ask<'_> {
        let request = Request::builder().method(method).uri(path);
        Ask { api: self, request, body: Vec::new(), ip: SocketAddr::from(([192, 0, 2, 1], 1)) }
    }

    /// A request with the first customer's key.
    pub async fn own(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        self.keyed(KEY, method, path, body).await
    }

    pub async fn keyed(&self, key: &str, method: &str, path: &str, body: Option<Value>) -> Answer {
        let ask = self.ask(method, path).key(key);
        match body {
            Some(body) => ask.json(&body).send().await,
            None => ask.send().await,
        }
    }

    /// A second customer: its id and key.
    pub async fn other_customer(&self) -> (String, String) {
        let customer = self.keyed(ADMIN, "POST", "/v1.0/customers", Some(json!({"name": "other"}))).await;
        let id = customer.json["id"].as_str().expect("an id").to_owned();
        let key = self.keyed(ADMIN, "POST", "/v1.0/accesskeys", Some(json!({"customer_id": id}))).await;
        (id, key.json["token"].as_str().expect("a token").to_owned())
    }

    pub fn advance(&self, by: Duration) {
        self.clock_us.fetch_add(by.as_micros() as u64, Ordering::Relaxed);
    }

    /// Makes the fake bridge refuse everything, or nothing.
    pub fn refuse(&self, refusal: Option<Refusal>) {
        self.held.lock().expect("held").refusal = refusal;
    }

    pub fn fail(&self, failure: Option<ControlError>) {
        self.held.lock().expect("held").failure = failure;
    }

    pub fn panic_next(&self) {
        self.held.lock().expect("held").panics = true;
    }

    /// The conference ends by itself, as by its timeout; the bridge forgets it.
    pub async fn end(&self, id: &str) {
        let id = id.parse().expect("an id");
        let mut conference =
            self.held.lock().expect("held").conferences.remove(&id).expect("a live conference");
        conference.status = ConferenceStatus::Terminated;
        conference.tm_end = Some(conference.tm_create);
        self.persist(Change::Conference(Box::new(ConferenceRecord { conference, event_seq: 3 }))).await;
    }

    /// A caller joins.
    pub async fn join(&self, conference: &str) -> String {
        let conference: ConferenceId = conference.parse().expect("an id");
        let micros = self.clock_us.fetch_add(1, Ordering::Relaxed);
        let call = Conferencecall {
            id: ConferencecallId(Uuid::from_u128(0x4000_8000_0000_0000_0000 + u128::from(micros))),
            customer_id: self.customer,
            activeflow_id: Uuid::nil(),
            conference_id: conference,
            reference_type: "call".to_owned(),
            reference_id: Uuid::from_u128(9),
            status: ConferencecallStatus::Joined,
            direction: "incoming".to_owned(),
            source: Address { r#type: "sip".to_owned(), ..Address::default() },
            destination: Address::default(),
            codec: "PCMU".to_owned(),
            hangup_cause: String::new(),
            tm_joined: None,
            tm_leaved: None,
            tm_create: Timestamp::from_micros(micros as i64),
            tm_update: Timestamp::NEVER,
            tm_delete: Timestamp::NEVER,
        };
        self.held.lock().expect("held").calls.insert(call.id, call.clone());
        self.persist(Change::Conferencecall(Box::new(call.clone()))).await;
        call.id.to_string()
    }

    /// The recording ends; the bridge forgets it. Its files hold `bytes`.
    pub async fn end_recording(&self, id: &str, bytes: &[u8], marks: &str) {
        let id: RecordingId = id.parse().expect("an id");
        let mut recording = self.held.lock().expect("held").recordings.remove(&id).expect("a live recording");
        recording.status = RecordingStatus::Ended;
        recording.tm_end = Some(recording.tm_create);
        recording.size_bytes = bytes.len() as u64;
        let folder = self.recordings();
        for (part, bytes) in [(Part::Mix(recording.format), bytes), (Part::Marks, marks.as_bytes())] {
            std::fs::write(folder.path(id, part), bytes).expect("the folder is ours");
        }
        self.persist(Change::Recording(Box::new(recording))).await;
    }

    /// The room's side of the streams that are open.
    pub fn streams(&self) -> Vec<StreamEnds> {
        let held = self.held.lock().expect("held");
        held.streams.iter().filter(|(_, open)| *open).map(|(ends, _)| ends.clone()).collect()
    }

    /// Where the files of recordings are.
    pub fn recordings(&self) -> Folder {
        Folder::open(&self.folder.0).expect("a folder")
    }

    /// The files of all recordings.
    pub fn recording_files(&self) -> usize {
        std::fs::read_dir(self.folder.0.join("recordings")).expect("a folder").count()
    }

    pub async fn persist(&self, change: Change) {
        self.write(Write::Change(change)).await;
    }

    /// Something changes; on disk a moment later.
    pub async fn change(&self, change: Change) {
        self.writer.send(Write::Change(change)).await.expect("the writer runs");
    }

    /// Waits until all that changed is on disk.
    pub async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        self.writer.send(Write::Flush(done)).await.expect("the writer runs");
        flushed.await.expect("the writer runs").expect("durable");
    }

    /// Serves it on a socket of its own; returns the URL for WebSockets.
    pub async fn serve(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a socket");
        let address = listener.local_addr().expect("an address");
        let service = self.router.clone().into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, service).await });
        format!("ws://{address}")
    }

    /// What became of an event of the outbox.
    pub async fn settle(&self, change: OutboxChange) {
        self.write(Write::Outbox(change)).await;
    }

    async fn write(&self, write: Write) {
        self.writer.send(write).await.expect("the writer runs");
        let (done, flushed) = oneshot::channel();
        self.writer.send(Write::Flush(done)).await.expect("the writer runs");
        flushed.await.expect("the writer runs").expect("durable");
    }

    /// Every (method, path template) of the document.
    pub fn operations(&self) -> Vec<(String, String)> {
        let paths = self.document["paths"].as_object().expect("paths");
        let of_path = |(path, item): (&String, &Value)| -> Vec<(String, String)> {
            item.as_object().expect("a path").keys().map(|method| (method.clone(), path.clone())).collect()
        };
        paths.iter().flat_map(of_path).collect()
    }

    /// The answer has a documented status and body, a request id, and the error shape where it failed.
    fn hold_against_document(&self, method: &str, path: &str, answer: &Answer) {
        let request_id = answer.headers["x-request-id"].to_str().expect("a request id");
        let here = format!("{method} {path} -> {}: {}", answer.status, answer.text);
        if !answer.status.is_success() && !answer.status.is_redirection() {
            assert_eq!(answer.json["error"]["request_id"], request_id, "{here}");
            self.validate(
                "ErrorBody",
                &json!({"$ref": "#/components/schemas/ErrorBody"}),
                &answer.json,
                &here,
            );
        }
        if path.starts_with("/docs") || path == "/openapi.json" {
            return;
        }
        let Some(item) = self.path_item(path) else {
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{here}");
            return;
        };
        let Some(operation) = item.get(method) else {
            assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{here}");
            return;
        };
        let documented = &operation["responses"][answer.status.as_str()];
        assert!(documented.is_object(), "an undocumented status: {here}");
        if let Some(schema) = documented.pointer("/content/application~1json/schema") {
            self.validate(path, schema, &answer.json, &here);
        }
    }

    fn path_item(&self, path: &str) -> Option<&Value> {
        let matches = |template: &str| {
            let (ours, theirs): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
            ours.len() == theirs.len()
                && ours.iter().zip(&theirs).all(|(our, their)| our == their || our.starts_with('{'))
        };
        let paths = self.document["paths"].as_object().expect("paths");
        paths.iter().find(|(template, _)| matches(template)).map(|(_, item)| item)
    }

    fn validate(&self, name: &str, schema: &Value, instance: &Value, here: &str) {
        let mut whole = schema.clone();
        whole["components"] = self.document["components"].clone();
        let validator = jsonschema::options()
            .should_validate_formats(true)
            .build(&whole)
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        let faults: Vec<String> =
            validator.iter_errors(instance).map(|e| format!("{} at {}", e, e.instance_path())).collect();
        assert!(faults.is_empty(), "{name}: {faults:?}\n{here}");
    }
}

/// A bridge in a map, which persists and answers by the real writer.
fn control(
    held: Arc<Mutex<Held>>,
    writer: mpsc::Sender<Write>,
    clock: Arc<dyn Fn() -> Now + Send + Sync>,
) -> ControlCall {
    Arc::new(move |command| {
        let (held, writer, now) = (held.clone(), writer.clone(), clock().wall);
        Box::pin(async move {
            let (changes, reply) = {
                let mut held = held.lock().expect("held");
                if std::mem::take(&mut held.panics) {
                    drop(held);
                    panic!("as the test wants it");
                }
                if let Some(failure) = held.failure {
                    return Err(failure);
                }
                match held.refusal.clone() {
                    Some(refusal) => (Vec::new(), Reply::Refused(refusal)),
                    None => held.handle(command, now),
                }
            };
            for change in changes {
                writer.send(Write::Change(change)).await.expect("the writer runs");
            }
            let (to, answer) = oneshot::channel();
            writer.send(Write::Reply { to, reply }).await.expect("the writer runs");
            answer.await.expect("the writer runs").map_err(|_| ControlError::NotDurable)
        })
    })
}

impl Held {
    fn change_flow(
        &mut self,
        customer: CustomerId,
        id: FlowId,
        change: impl FnOnce(&mut Flow),
    ) -> (Vec<Change>, Reply) {
        match self.flows.get_mut(&id).filter(|flow| flow.customer_id == customer) {
            Some(flow) => {
                change(flow);
                (vec![Change::Flow(Box::new(flow.clone()))], Reply::Flow(Box::new(flow.clone())))
            }
            None => (Vec::new(), Reply::Refused(Refusal::NotFound)),
        }
    }

    /// The refusal of the first flow named that is neither there nor nil, as the bridge has it.
    fn missing_flow<const N: usize>(
        &self,
        customer: CustomerId,
        named: [(&'static str, FlowId); N],
    ) -> Option<Reply> {
        let missing =
            |id: FlowId| !id.is_nil() && self.flows.get(&id).is_none_or(|flow| flow.customer_id != customer);
        let key = named.into_iter().find(|(_, id)| missing(*id));
        key.map(|(key, _)| Reply::Refused(Refusal::NoSuchFlow(key)))
    }

    fn handle(&mut self, command: Command, now: Timestamp) -> (Vec<Change>, Reply) {
        match command {
            Command::CreateConference { customer, new } => {
                let named = [("pre_flow_id", new.pre_flow_id), ("post_flow_id", new.post_flow_id)];
                if let Some(refused) = self.missing_flow(customer, named) {
                    return (Vec::new(), refused);
                }
                let conference = made(customer, new, now, self.conferences.len());
                self.conferences.insert(conference.id, conference.clone());
                changed(conference)
            }
            Command::UpdateConference { customer, id, change } => {
                let flow = |id: Option<FlowId>| id.unwrap_or(FlowId::NIL);
                let named =
                    [("pre_flow_id", flow(change.pre_flow_id)), ("post_flow_id", flow(change.post_flow_id))];
                if let Some(refused) = self.missing_flow(customer, named) {
                    return (Vec::new(), refused);
                }
                self.change(customer, id, |c| apply(c, change, now))
            }
            Command::RegenerateDirectHash { customer, id } => {
                self.change(customer, id, |c| c.direct_hash = "abcdefabcdef".to_owned())
            }
            Command::DeleteConference { customer, id } => {
                let (changes, reply) = self.change(customer, id, |c| {
                    c.status = ConferenceStatus::Terminated;
                    (c.tm_end, c.tm_delete, c.tm_update) = (Some(now), now, now);
                    c.direct_hash.clear();
                });
                self.conferences.retain(|_, c| c.tm_delete == Timestamp::NEVER);
                (changes, reply)
            }
            Command::CreateFlow { customer, new } => {
                let id =
                    FlowId(Uuid::from_u128(now.as_micros() as u128 * 999_983 + self.flows.len() as u128));
                let flow = Flow {
                    id,
                    customer_id: customer,
                    r#type: "flow".to_owned(),
                    name: new.name,
                    detail: new.detail,
                    actions: new.program.shown().to_vec(),
                    tm_create: now,
                    tm_update: Timestamp::NEVER,
                    tm_delete: Timestamp::NEVER,
                };
                self.flows.insert(id, flow.clone());
                (vec![Change::Flow(Box::new(flow.clone()))], Reply::Flow(Box::new(flow)))
            }
            Command::UpdateFlow { customer, id, change } => self.change_flow(customer, id, |flow| {
                flow.name = change.name.unwrap_or_else(|| flow.name.clone());
                flow.detail = change.detail.unwrap_or_else(|| flow.detail.clone());
                flow.actions =
                    change.program.map_or(flow.actions.clone(), |program| program.shown().to_vec());
                flow.tm_update = now;
            }),
            Command::DeleteFlow { customer, id } => {
                let done = self.change_flow(customer, id, |flow| flow.tm_delete = now);
                self.flows.retain(|_, flow| flow.tm_delete == Timestamp::NEVER);
                done
            }
            Command::ReadFlows { customer, ids } => {
                let live = ids
                    .iter()
                    .filter_map(|id| self.flows.get(id))
                    .filter(|flow| flow.customer_id == customer);
                (Vec::new(), Reply::Flows(live.cloned().collect()))
            }
            Command::ReadActiveflows { .. } => (Vec::new(), Reply::Activeflows(Vec::new())),
            Command::ReadConferences { customer, ids } => {
                let live = ids
                    .iter()
                    .filter_map(|id| self.conferences.get(id))
                    .filter(|c| c.customer_id == customer);
                (Vec::new(), Reply::Conferences(live.cloned().collect()))
            }
            Command::EjectConferencecall { customer, id } => {
                match self.calls.get_mut(&id).filter(|c| c.customer_id == customer) {
                    Some(call) => {
                        call.status = ConferencecallStatus::Leaving;
                        (Vec::new(), Reply::Conferencecall(Box::new(call.clone())))
                    }
                    None => (Vec::new(), Reply::Refused(Refusal::NotFound)),
                }
            }
            Command::StartRecording { customer, id, new } => {
                if let Some(refused) = self.missing_flow(customer, [("on_end_flow_id", new.on_end_flow_id)]) {
                    return (Vec::new(), refused);
                }
                let recording = recording(customer, id, new, now);
                let reply = self.change(customer, id, |c| {
                    c.recording_id = recording.id.0;
                    c.recording_ids.push(recording.id.0);
                });
                self.recordings.insert(recording.id, recording);
                reply
            }
            Command::StopRecording { customer, id } => {
                self.change(customer, id, |c| c.recording_id = Uuid::nil())
            }
            Command::PauseRecording { customer, id, pause } => {
                self.recordings.values_mut().for_each(|recording| recording.paused = pause);
                self.change(customer, id, |_| ())
            }
            Command::OpenStream { customer, id } => {
                if self.conferences.get(&id).is_none_or(|c| c.customer_id != customer) {
                    return (Vec::new(), Reply::Refused(Refusal::NotFound));
                }
                let leg = LegId(self.streams.len() as u64 + 1);
                let tap = Tap::new(TapId(leg.0), TapParts { mix: true, ..TapParts::default() }, 1 << 14);
                let ends = StreamEnds { leg, feed: Feed::new(), tap };
                self.streams.push((ends.clone(), true));
                (Vec::new(), Reply::Stream(Box::new(ends)))
            }
            Command::CloseStream { customer, id, leg } => {
                self.streams[leg.0 as usize - 1].1 = false;
                self.change(customer, id, |_| ())
            }
            Command::ReadRecordings { customer, ids } => {
                let live =
                    ids.iter().filter_map(|id| self.recordings.get(id)).filter(|r| r.customer_id == customer);
                (Vec::new(), Reply::Recordings(live.cloned().collect()))
            }
            Command::StartTranscribe { id, language, .. } if language == "xx" => {
                assert!(self.conferences.contains_key(&id), "the test names a live one");
                let known = vec!["en".to_owned()];
                (Vec::new(), Reply::Refused(Refusal::UnknownLanguage(known)))
            }
            Command::StartTranscribe { customer, id, .. } => {
                self.change(customer, id, |c| c.transcribe_id = Uuid::from_u128(77))
            }
            Command::StopTranscribe { customer, id } => {
                self.change(customer, id, |c| c.transcribe_id = Uuid::nil())
            }
            Command::EndTranscribe { .. } => (Vec::new(), Reply::Refused(Refusal::NotFound)),
            Command::ReadTranscribes { .. } => (Vec::new(), Reply::Transcribes(Vec::new())),
            Command::ReadConferencecalls { customer, ids } => {
                let live =
                    ids.iter().filter_map(|id| self.calls.get(id)).filter(|c| c.customer_id == customer);
                (Vec::new(), Reply::Conferencecalls(live.cloned().collect()))
            }
        }
    }

    fn change(
        &mut self,
        customer: CustomerId,
        id: ConferenceId,
        change: impl FnOnce(&mut Conference),
    ) -> (Vec<Change>, Reply) {
        match self.conferences.get_mut(&id).filter(|c| c.customer_id == customer) {
            Some(conference) => {
                change(conference);
                changed(conference.clone())
            }
            None => (Vec::new(), Reply::Refused(Refusal::NotFound)),
        }
    }
}

fn recording(customer: CustomerId, conference: ConferenceId, new: NewRecording, now: Timestamp) -> Recording {
    Recording {
        id: RecordingId(Uuid::from_u128(now.as_micros() as u128 * 1_000_033)),
        customer_id: customer,
        owner_type: String::new(),
        owner_id: Uuid::nil(),
        activeflow_id: Uuid::nil(),
        reference_type: "conference".to_owned(),
        reference_id: conference,
        status: RecordingStatus::Recording,
        format: new.format,
        on_end_flow_id: new.on_end_flow_id,
        duration: new.duration_s,
        tracks: new.tracks,
        paused: false,
        cause: String::new(),
        duration_ms: 0,
        lost_ms: 0,
        size_bytes: 0,
        tm_start: Some(now),
        tm_end: None,
        tm_create: now,
        tm_update: Timestamp::NEVER,
        tm_delete: Timestamp::NEVER,
    }
}

fn changed(conference: Conference) -> (Vec<Change>, Reply) {
    let record = ConferenceRecord { conference: conference.clone(), event_seq: 1 };
    (vec![Change::Conference(Box::new(record))], Reply::Conference(Box::new(conference)))
}

fn apply(conference: &mut Conference, change: ConferenceChange, now: Timestamp) {
    conference.tm_update = now;
    conference.name = change.name.unwrap_or_else(|| conference.name.clone());
    conference.detail = change.detail.unwrap_or_else(|| conference.detail.clone());
    conference.timeout = change.timeout_s.unwrap_or(conference.timeout);
    conference.data = change.data.unwrap_or_else(|| conference.data.clone());
    match change.direct_access {
        Some(true) => conference.direct_hash = "0123456789ab".to_owned(),
        Some(false) => conference.direct_hash.clear(),
        None => {}
    }
}

fn made(customer: CustomerId, new: NewConference, now: Timestamp, number: usize) -> Conference {
    let id = Uuid::from_u128(now.as_micros() as u128 * 1_000_003 + number as u128);
    Conference {
        id: new.id.unwrap_or(ConferenceId(id)),
        customer_id: customer,
        r#type: new.r#type,
        status: ConferenceStatus::Progressing,
        name: new.name,
        detail: new.detail,
        data: new.data,
        timeout: new.timeout_s,
        pre_flow_id: new.pre_flow_id,
        post_flow_id: new.post_flow_id,
        conferencecall_ids: Vec::new(),
        recording_id: Uuid::nil(),
        recording_ids: Vec::new(),
        transcribe_id: Uuid::nil(),
        transcribe_ids: Vec::new(),
        direct_hash: if new.direct_access { "0123456789ab".to_owned() } else { String::new() },
        tm_end: None,
        tm_create: now,
        tm_update: Timestamp::NEVER,
        tm_delete: Timestamp::NEVER,
    }
}
