//! The server as a whole: started in order, run until it is told to stop, ended in order.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::failure::{FAILED, Failure};
use super::ready::Ready;
use super::reload::{self, Owners, Reloader};
use super::{gather, process, wiring};
use crate::api::{self, ApiSettings, ApiState, ControlAnswer, Health, RecordingStorage};
use crate::bridge::Bridge;
use crate::bridge::recording::RecordReport;
use crate::config::Config;
use crate::control::{self, Control, Inbound, ShardInlet};
use crate::errand::Errands;
use crate::id::CustomerId;
use crate::media::leg::LegSettings;
use crate::net::clock::Clock;
use crate::net::http::Trust;
use crate::net::media::Interface;
use crate::net::thread::{MediaThread, Moving, ThreadSetup};
use crate::net::transport::Transports;
use crate::obs::Metrics;
use crate::plane::ShardReport;
use crate::record::storage::Storage;
use crate::record::{self, Recorder, retention};
use crate::rng::Rng;
use crate::speech::recogniser::service::Recogniser;
use crate::store::{Store, Write, spawn_writer};
use crate::time::{Duration, Timestamp};
use crate::webhook::{self, Webhooks};

/// How long after the drain timeout the last writes may take before the server ends without them.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
/// The exit code of a process ended by a second signal, as shells count SIGINT.
const INTERRUPTED: u8 = 130;

/// SIGTERM and ctrl-C.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on the signals no longer end the process by themselves.
    pub fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// How the server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// All calls were ended and everything is on disk.
    Drained,
    /// A second signal wanted no waiting.
    AtOnce,
    /// Something stopped that must not.
    Broken,
}

impl Ending {
    /// The exit code that tells it.
    pub fn exit_code(self) -> ExitCode {
        match self {
            Ending::Drained => ExitCode::SUCCESS,
            Ending::AtOnce => ExitCode::from(INTERRUPTED),
            Ending::Broken => ExitCode::from(FAILED),
        }
    }
}

/// The running server.
pub(super) struct Server {
    /// The way to the bridge.
    pub control: Control,
    /// The first customer.
    pub customer: CustomerId,
    /// What is told about it.
    pub ready: Ready,
    /// Whom a configuration that is read anew is told to.
    owners: Owners,
    store: Store,
    drain_timeout: Duration,
    signals: Signals,
    bridge: JoinHandle<()>,
    writer: JoinHandle<()>,
    webhooks: Webhooks,
    http: JoinHandle<io::Result<()>>,
    stop_http: oneshot::Sender<()>,
    media: Vec<Arc<MediaThread>>,
    recorder: Recorder,
    retention: JoinHandle<()>,
    storage: Option<Storage>,
    recogniser: Recogniser,
}

impl Server {
    /// Starts everything. Ports are bound first: they are what most often goes wrong.
    pub async fn start(config: Config, mut rng: Rng) -> Result<Server, Failure> {
        let clock = Clock::new();
        let signals =
            Signals::listen().map_err(|error| Failure::other("signals cannot be received", &error))?;
        let trust = wiring::trust(&config).map_err(Failure::settings)?;
        let (control, inbox) = control::channel();
        let transports = Transports::bind(&wiring::transport(&config), &control.inbox())
            .map_err(|error| Failure::sip_bind(&error))?;
        let listener = TcpListener::bind(config.http.listen)
            .await
            .map_err(|error| Failure::http_bind(config.http.listen, &error))?;
        let ports = wiring::ports(&config, &mut rng).map_err(|error| Failure::rtp(&error))?;

        let store_failed = |error| Failure::store(&config.data, &error);
        let store = Store::open_at(&config.data, config.database.as_ref()).await.map_err(store_failed)?;
        let keys = config.keys.clone();
        let bootstrap = store
            .bootstrap(keys.accesskey, keys.admin_key, clock.wall(), &mut rng)
            .await
            .map_err(store_failed)?;
        let restored = store.restore().await.map_err(store_failed)?;
        let flows = store.restore_flows().await.map_err(store_failed)?;
        let folder = record::Folder::open(&config.data)
            .map_err(|error| Failure::other("the folder of recordings cannot be made", &error))?;
        let mut cut_off = store.open_recordings().await.map_err(store_failed)?;
        record::mend(&folder, &mut cut_off);
        let (writes, writer) = spawn_writer(store.clone());

        let media = start_media(&config, &clock, &control.inbox(), &mut rng)?;
        let shards = media
            .iter()
            .map(|thread| ShardInlet { orders: thread.orders.clone(), waker: thread.waker.clone() })
            .collect();
        let outlet = control.inbox();
        let (recorder, record_inlet) =
            Recorder::start(folder.clone(), Box::new(move |report| deliver_recorded(&outlet, report)))
                .map_err(|error| Failure::media(&error))?;
        let outlet = control.inbox();
        let (speech_settings, settings) = watch::channel(wiring::speech(&config, &trust));
        let means = wiring::recogniser(settings, tokio::runtime::Handle::current())
            .map_err(|error| Failure::other("the recogniser cannot be used", &error))?;
        let (recogniser, speech) = Recogniser::start(
            means,
            Box::new(move |report| {
                // The inbox gone means that the server is ending.
                let _ = outlet.blocking_send(Inbound::Speech(report));
            }),
            rng.fork(),
        )
        .map_err(|error| Failure::other("the recogniser's threads cannot be started", &error))?;
        let metrics = Metrics::new();
        let no_tls = |error| Failure::other("the TLS library cannot be used", &error);
        let errands = Errands::new(wiring::errands(&config, &trust)).map_err(no_tls)?;
        gather::register(&metrics, &control, &transports, &media);
        let telling = wiring::telling(&config, &trust).map_err(no_tls)?;
        let (telling, told) = watch::channel(telling);
        let webhooks = webhook::spawn(webhook::Setup {
            store: store.clone(),
            writer: writes.clone(),
            clock: Arc::new(move || clock.both()),
            rng: rng.fork(),
            telling: told,
        });
        gather::register_webhooks(&metrics, &store, &webhooks.counters, clock);
        gather::register_errands(&metrics, &errands);
        gather::register_recorder(&metrics, &recorder);
        gather::register_recogniser(&metrics, &recogniser);

        let ready = Ready {
            sip: transports.local_addr(),
            domains: config.sip.domains.clone(),
            http: listener.local_addr().unwrap_or(config.http.listen),
            rtp_ports: config.rtp.ports.clone(),
            media_threads: media.len(),
            backend: media.first().map_or("none", |thread| thread.backend),
            express: config.rtp.express.clone(),
            express_threads: media.iter().filter(|thread| thread.is_express).count(),
            fallback: media.first().and_then(|thread| thread.fallback.clone()),
            database: config.database.as_ref().map(ToString::to_string),
            data: std::fs::canonicalize(&config.data).unwrap_or(config.data.clone()),
            restored: restored.live(),
            access_key: bootstrap.created_access_key,
            admin_key: bootstrap.created_admin_key,
        };
        let shard_count = u16::try_from(media.len()).unwrap_or(u16::MAX);
        let mut bridge = Bridge::new(wiring::bridge(&config, shard_count), rng.fork());
        bridge.restore_flows(clock.both(), flows.flows, flows.running);
        bridge.restore_recordings(cut_off);
        bridge.restore(clock.both(), restored.conferences, restored.open_calls);
        bridge.restore_transcribes(clock.both(), restored.transcribes);
        let audits = writes.downgrade();
        let setup = control::Setup {
            bridge,
            clock,
            ports,
            shards,
            transports,
            writer: writes,
            errands: errands.clone(),
            recorder: record_inlet,
            speech,
            store: store.clone(),
        };
        let bridge = tokio::spawn(control::run(inbox, setup));

        let (kept, keeping) = watch::channel(wiring::retention(&config));
        let retention = tokio::spawn(retention::run(keeping, store.clone(), folder.clone(), clock));
        let (api, settings) = watch::channel(wiring::api(&config));
        let (storage, stored) = start_storage(&config, &trust, (&store, &folder), clock, &metrics)?.unzip();
        let mut state =
            api_state(settings, clock, &control, (store.clone(), audits, folder), &metrics, rng.fork());
        state.storage = stored;
        let owners = Owners {
            control: control.clone(),
            shards: shard_count,
            api,
            telling,
            kept,
            speech: speech_settings,
            errands,
            reloads: Arc::default(),
        };
        gather::register_reloads(&metrics, &owners.reloads);
        let (stop_http, http) = serve_http(listener, state);
        info!(sip = %ready.sip, http = %ready.http, backend = ready.backend, "ready");
        Ok(Server {
            control,
            customer: bootstrap.customer_id,
            ready,
            owners,
            store,
            drain_timeout: config.conference.drain_timeout,
            signals,
            bridge,
            writer,
            webhooks,
            http,
            stop_http,
            media,
            recorder,
            retention,
            storage,
            recogniser,
        })
    }

    /// What is printed once it is ready.
    pub fn ready_text(&self) -> String {
        self.ready.text()
    }

    /// Serves until a signal, then ends: no new calls, BYE to all, the last write, the API. Until then
    /// the configuration is read anew whenever `reloader` is told to.
    pub async fn run(mut self, mut reloader: Option<Reloader>) -> Result<Ending, Failure> {
        loop {
            tokio::select! {
                () = self.signals.next() => break,
                _ = &mut self.bridge => {
                    warn!("the control task stopped by itself");
                    return Ok(Ending::Broken);
                }
                Some(config) = reload::next(&mut reloader, &self.owners) => {
                    self.drain_timeout = config.conference.drain_timeout;
                }
            }
        }
        info!("draining: no new calls, the others get BYE; a second signal ends at once");
        self.control.drain().await;
        let limit = self.drain_timeout + FLUSH_TIMEOUT;
        let Server {
            mut signals,
            bridge,
            writer,
            webhooks,
            http,
            stop_http,
            store,
            media,
            recorder,
            recogniser,
            retention,
            storage,
            ..
        } = self;
        retention.abort();
        // What is under way is tried again at the next start.
        drop(storage);
        let finish = async move {
            // An error is a panic, which was logged; what follows must happen all the same.
            let _ = bridge.await;
            webhooks.stop().await;
            let _ = writer.await;
            store.end_feeds();
            let _ = stop_http.send(());
            let _ = http.await;
            store.close().await;
            drop(recogniser);
        };
        let ending = tokio::select! {
            done = tokio::time::timeout(limit, finish) => match done {
                Ok(()) => Ending::Drained,
                Err(_) => {
                    warn!("the drain timeout is over; ended by force");
                    Ending::Broken
                }
            },
            () = signals.next() => Ending::AtOnce,
        };
        if ending == Ending::Drained {
            // Each stops within a tick; its sockets are closed.
            drop(media);
            drop(recorder);
            info!("drained");
        } else {
            // Waiting for threads is what was not wanted.
            std::mem::forget(media);
            std::mem::forget(recorder);
        }
        Ok(ending)
    }
}

/// Starts one media thread per shard.
#[expect(clippy::result_large_err, reason = "a report that cannot be taken must come back whole")]
fn start_media(
    config: &Config,
    clock: &Clock,
    inbox: &mpsc::Sender<Inbound>,
    rng: &mut Rng,
) -> Result<Vec<Arc<MediaThread>>, Failure> {
    let count = if config.rtp.media_threads == 0 { process::cores() } else { config.rtp.media_threads };
    let now = clock.both();
    let since_zero = i64::try_from(now.instant.as_micros()).unwrap_or(i64::MAX);
    let wall_at_zero = Timestamp::from_micros(now.wall.as_micros().saturating_sub(since_zero));
    let legs: LegSettings = wiring::legs(config, wall_at_zero, rng);
    let attach =
        |name: &String| Interface::attach(name).map(Arc::new).map_err(|error| Failure::express(name, &error));
    let express = config.rtp.express.as_ref().map(attach).transpose()?;
    let mut threads = Vec::with_capacity(usize::from(count));
    for index in 0..count {
        let (inbox, outlet) = (inbox.clone(), inbox.clone());
        let thread = MediaThread::start(ThreadSetup {
            index,
            backend: wiring::backend(config),
            express: express.clone(),
            capacity: wiring::sockets_per_thread(config),
            legs: legs.clone(),
            rng: rng.fork(),
            reports: Box::new(move |report| deliver(&inbox, report)),
            moving: Box::new(move |moving| deliver_moving(&outlet, moving)),
        })
        .map_err(|error| Failure::media(&error))?;
        info!(
            thread = index,
            backend = thread.backend,
            express = thread.is_express,
            priority = %thread.priority,
            "media thread runs"
        );
        threads.push(Arc::new(thread));
    }
    Ok(threads)
}

/// Hands a report to the control task; gives it back when the inbox is full.
#[expect(clippy::result_large_err, reason = "a report that cannot be taken must come back whole")]
fn deliver(inbox: &mpsc::Sender<Inbound>, report: ShardReport) -> Result<(), ShardReport> {
    match inbox.try_send(Inbound::Report(report)) {
        Err(mpsc::error::TrySendError::Full(Inbound::Report(report))) => Err(report),
        // Nobody listens any more: the server is ending.
        _ => Ok(()),
    }
}

/// Hands a leg on its way to the control task; gives it back when the inbox is full.
fn deliver_moving(inbox: &mpsc::Sender<Inbound>, moving: Moving) -> Result<(), Moving> {
    match inbox.try_send(Inbound::Moving(moving)) {
        Err(mpsc::error::TrySendError::Full(Inbound::Moving(moving))) => Err(moving),
        // Nobody listens any more: the server is ending.
        _ => Ok(()),
    }
}

/// Hands a recorder's report to the control task; gives it back when the inbox is full.
fn deliver_recorded(inbox: &mpsc::Sender<Inbound>, report: RecordReport) -> Result<(), RecordReport> {
    match inbox.try_send(Inbound::Recorded(report)) {
        Err(mpsc::error::TrySendError::Full(Inbound::Recorded(report))) => Err(report),
        // Nobody listens any more: the server is ending.
        _ => Ok(()),
    }
}

/// Starts to move recordings to storage, if one is configured; also gives what the API reads there.
fn start_storage(
    config: &Config,
    trust: &Trust,
    (store, folder): (&Store, &record::Folder),
    clock: Clock,
    metrics: &Metrics,
) -> Result<Option<(Storage, RecordingStorage)>, Failure> {
    let remote = || {
        wiring::storage(config, trust)
            .map_err(|error| Failure::other("recordings' storage cannot be used", &error))
    };
    let (Some(writes), Some(reads)) = (remote()?, remote()?) else { return Ok(None) };
    let storage = Storage::start(store.clone(), folder.clone(), writes, clock)
        .map_err(|error| Failure::other("the thread for recordings' storage cannot be started", &error))?;
    gather::register_storage(metrics, &storage.counters);
    let stored = RecordingStorage { remote: reads, counters: storage.counters.clone() };
    Ok(Some((storage, stored)))
}

/// What the API works with.
fn api_state(
    settings: watch::Receiver<ApiSettings>,
    clock: Clock,
    control: &Control,
    (store, writer, recordings): (Store, mpsc::WeakSender<Write>, record::Folder),
    metrics: &Metrics,
    rng: Rng,
) -> ApiState {
    let (its_control, metrics) = (control.clone(), metrics.clone());
    let health = move || {
        let draining = its_control.is_draining().then(|| "draining: no new calls are taken".to_owned());
        Health { reasons: draining.into_iter().collect() }
    };
    let control = control.clone();
    let call = move |command| -> ControlAnswer {
        let control = control.clone();
        Box::pin(async move { control.call(command).await })
    };
    ApiState {
        control: Arc::new(call),
        store,
        writer,
        health: Arc::new(health),
        metrics: Arc::new(move || metrics.render()),
        clock: Arc::new(move || clock.both()),
        rng,
        recordings,
        storage: None,
        settings,
    }
}

/// Serves the API until told to stop; requests that run are finished.
fn serve_http(listener: TcpListener, state: ApiState) -> (oneshot::Sender<()>, JoinHandle<io::Result<()>>) {
    let (stop, stopped) = oneshot::channel();
    let service = api::router(state).into_make_service_with_connect_info::<std::net::SocketAddr>();
    let serving = tokio::spawn(async move {
        axum::serve(listener, service)
            .with_graceful_shutdown(async move {
                // The sender gone means the same as a word from it.
                let _ = stopped.await;
            })
            .await
    });
    (stop, serving)
}
