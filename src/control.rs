//! The control task: the one owner of the [`Bridge`]. It feeds the bridge one input at a time,
//! drains every output, and carries each to where it belongs: SIP bytes to the transports, shard
//! commands to the media threads, changes and replies, in order, to the store's writer.

mod outlet;
mod ports;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{mpsc, oneshot, watch};
use tracing::field::display;
use tracing::{debug, error, info, warn};

use crate::bridge::command::{Command, Reply};
use crate::bridge::flow::outside::ErrandResult;
use crate::bridge::recording::RecordReport;
use crate::bridge::{self, Bridge, Gauges, Input, Level, Note, Output, SpeechReport};
use crate::errand::Errands;
use crate::net::clock::Clock;
use crate::net::thread::Moving;
use crate::net::transport::{self, TransportEvent, Transports};
use crate::plane::ShardReport;
use crate::record::RecordInlet;
use crate::speech::recogniser::service::SpeechInlet;
use crate::store::{NotDurable, Store, Write};
use outlet::Outlets;
pub use outlet::ShardInlet;
pub use ports::BoundPorts;

/// Requests and reports waiting for the bridge. Full: requests are refused, SIP over UDP is
/// dropped by its transport, reports wait in their shard.
pub const INBOX_MAX: usize = 8192;
/// Inputs handled between two looks at the timers.
const BATCH_MAX: usize = 64;
/// The timers' longest sleep; bounds how stale the published gauges get.
const GAUGES_EVERY: std::time::Duration = std::time::Duration::from_millis(500);

/// What reaches the control task.
#[derive(Debug)]
pub enum Inbound {
    /// A request of the API.
    Command {
        /// What is asked.
        command: Command,
        /// Where the answer goes, once it is durable.
        reply: oneshot::Sender<Result<Reply, NotDurable>>,
    },
    /// A message or a closed connection.
    Transport(TransportEvent),
    /// News of a shard.
    Report(ShardReport),
    /// A leg on its way from media thread to media thread.
    Moving(Moving),
    /// What came of an errand.
    Errand {
        /// Which.
        ticket: u64,
        /// What came of it.
        result: ErrandResult,
    },
    /// News of the recorder.
    Recorded(RecordReport),
    /// News of the recogniser.
    Speech(SpeechReport),
    /// Other settings hold from now on.
    Settings(Box<Reconfigured>),
    /// Take no new calls, end all, then stop.
    Drain,
}

/// What the control task works with once its configuration was read anew.
#[derive(Clone, Debug)]
pub struct Reconfigured {
    /// The bridge's settings.
    pub bridge: bridge::Settings,
    /// The limits of the SIP transports.
    pub transports: transport::Settings,
    /// What flows have done outside.
    pub errands: Errands,
}

impl From<TransportEvent> for Inbound {
    fn from(event: TransportEvent) -> Inbound {
        Inbound::Transport(event)
    }
}

/// Why a command got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// The inbox is full.
    #[error("the bridge is overloaded; try again")]
    Busy,
    /// The change is in effect but could not be written to disk.
    #[error("the change is in effect but not durable: the store cannot write (is the disk full?)")]
    NotDurable,
    /// The control task has stopped.
    #[error("the server is shutting down")]
    Stopped,
}

/// The handle that other tasks reach the bridge by.
#[derive(Clone, Debug)]
pub struct Control {
    inbox: mpsc::Sender<Inbound>,
    gauges: watch::Receiver<Gauges>,
    draining: Arc<AtomicBool>,
}

impl Control {
    /// Sends a command and waits until its answer is durable.
    pub async fn call(&self, command: Command) -> Result<Reply, ControlError> {
        let (reply, answer) = oneshot::channel();
        self.inbox.try_send(Inbound::Command { command, reply }).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => ControlError::Busy,
            mpsc::error::TrySendError::Closed(_) => ControlError::Stopped,
        })?;
        match answer.await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(NotDurable)) => Err(ControlError::NotDurable),
            Err(_) => Err(ControlError::Stopped),
        }
    }

    /// The inbox itself, for transports and media threads.
    pub fn inbox(&self) -> mpsc::Sender<Inbound> {
        self.inbox.clone()
    }

    /// The bridge's gauges, at most half a second old.
    pub fn gauges(&self) -> Gauges {
        self.gauges.borrow().clone()
    }

    /// Has other settings hold from now on.
    pub async fn change(&self, to: Reconfigured) {
        // A control task that is gone has no use for them.
        let _ = self.inbox.send(Inbound::Settings(Box::new(to))).await;
    }

    /// Whether the bridge takes no new calls any more.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Starts the drain; the control task stops when it is done.
    pub async fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        // An inbox that is gone has drained already.
        let _ = self.inbox.send(Inbound::Drain).await;
    }
}

/// What the control task is made of.
pub struct Setup {
    /// The bridge, restored.
    pub bridge: Bridge,
    /// The clocks.
    pub clock: Clock,
    /// Where RTP ports come from.
    pub ports: BoundPorts,
    /// One per media thread, in the order of their shards.
    pub shards: Vec<ShardInlet>,
    /// The SIP transports.
    pub transports: Transports,
    /// The store's writer.
    pub writer: mpsc::Sender<Write>,
    /// What flows have done outside.
    pub errands: Errands,
    /// The way to the recorder.
    pub recorder: RecordInlet,
    /// The way to the recogniser.
    pub speech: SpeechInlet,
    /// Whose listeners are shown what callers are saying.
    pub store: Store,
}

/// Makes the inbox and its handle, before the transports and media threads that need them exist.
pub fn channel() -> (Control, Inbox) {
    let (inbox, receiver) = mpsc::channel(INBOX_MAX);
    let (publish, gauges) = watch::channel(Gauges::default());
    let draining = Arc::new(AtomicBool::new(false));
    let sender = inbox.downgrade();
    (Control { inbox, gauges, draining }, Inbox { sender, receiver, publish })
}

/// The receiving end of [`channel`].
#[derive(Debug)]
pub struct Inbox {
    sender: mpsc::WeakSender<Inbound>,
    receiver: mpsc::Receiver<Inbound>,
    publish: watch::Sender<Gauges>,
}

/// Runs the control task until it has drained.
pub async fn run(inbox: Inbox, setup: Setup) {
    let Inbox { sender, mut receiver, publish } = inbox;
    let Setup { bridge, clock, ports, shards, transports, writer, errands, recorder, speech, store } = setup;
    let outlets = Outlets::new(shards);
    let mut task = Task {
        bridge,
        clock,
        ports,
        outlets,
        transports,
        writer,
        errands,
        inbox: sender,
        recorder,
        speech,
        store,
        replies: HashMap::new(),
        next_ticket: 0,
        drained: false,
    };
    let mut gauges_due = clock.now();
    task.carry_outputs().await;
    while !task.drained {
        let now = clock.now();
        if now >= gauges_due {
            // Nobody listening is fine: the last value stays readable.
            publish.send_replace(task.bridge.gauges());
            gauges_due = now + GAUGES_EVERY;
        }
        let next = task.bridge.next_timeout().map_or(gauges_due, |timeout| timeout.min(gauges_due));
        let next = task.outlets.retry_at(now).map_or(next, |retry| next.min(retry));
        tokio::select! {
            inbound = receiver.recv() => {
                let Some(inbound) = inbound else { break };
                task.handle(inbound).await;
                for _ in 1..BATCH_MAX {
                    let Ok(inbound) = receiver.try_recv() else { break };
                    task.handle(inbound).await;
                }
            }
            () = tokio::time::sleep(next.since(now)) => {}
        }
        task.expire().await;
    }
    publish.send_replace(task.bridge.gauges());
}

/// The running control task.
struct Task {
    bridge: Bridge,
    clock: Clock,
    ports: BoundPorts,
    outlets: Outlets,
    transports: Transports,
    writer: mpsc::Sender<Write>,
    errands: Errands,
    /// Our own inbox, for the results of errands; weak, so that it closes with its last user.
    inbox: mpsc::WeakSender<Inbound>,
    recorder: RecordInlet,
    speech: SpeechInlet,
    store: Store,
    /// Who waits for which ticket. Bounded by the inbox: a ticket is answered before the next input.
    replies: HashMap<u64, oneshot::Sender<Result<Reply, NotDurable>>>,
    next_ticket: u64,
    drained: bool,
}

impl Task {
    async fn handle(&mut self, inbound: Inbound) {
        let input = match inbound {
            Inbound::Command { command, reply } => {
                let ticket = self.next_ticket;
                self.next_ticket += 1;
                self.replies.insert(ticket, reply);
                Input::Command { ticket, command }
            }
            Inbound::Transport(TransportEvent::Message { flow, bytes }) => Input::Sip { flow, bytes },
            Inbound::Transport(TransportEvent::Closed { flow }) => Input::FlowClosed { flow },
            Inbound::Report(report) => Input::Report(report),
            Inbound::Moving(moving) => match self.outlets.arrived(moving) {
                Some(report) => Input::Report(report),
                None => return,
            },
            Inbound::Errand { ticket, result } => Input::Errand { ticket, result },
            Inbound::Recorded(report) => Input::Recorded(report),
            Inbound::Speech(report) => Input::Speech(report),
            Inbound::Settings(to) => {
                let Reconfigured { bridge, transports, errands } = *to;
                self.transports.limit(&transports);
                self.errands = errands;
                Input::Settings(Box::new(bridge))
            }
            Inbound::Drain => Input::Drain,
        };
        self.bridge.handle(self.clock.both(), input, &mut self.ports);
        self.carry_outputs().await;
    }

    /// Fires the timers that are due and retries what a full shard refused.
    async fn expire(&mut self) {
        let now = self.clock.both();
        if self.bridge.next_timeout().is_some_and(|timeout| timeout <= now.instant) {
            self.bridge.handle(now, Input::Timeout, &mut self.ports);
            self.carry_outputs().await;
        }
        self.outlets.retry();
        if let Some(report) = self.recorder.retry() {
            self.bridge.handle(now, Input::Recorded(report), &mut self.ports);
            self.carry_outputs().await;
        }
    }

    /// Carries every output of the bridge to its place.
    async fn carry_outputs(&mut self) {
        while let Some(output) = self.bridge.poll_output() {
            match output {
                Output::Send(transmit) => self.transports.send(transmit),
                Output::Shard { shard, command } => {
                    let sockets = self.ports.take_for(&command);
                    if let Some(report) = self.outlets.send(shard, command, sockets) {
                        self.bridge.handle(self.clock.both(), Input::Report(report), &mut self.ports);
                    }
                }
                Output::Record(order) => {
                    if let Some(report) = self.recorder.order(order) {
                        self.bridge.handle(self.clock.both(), Input::Recorded(report), &mut self.ports);
                    }
                }
                Output::Speech(order) => self.speech.order(order),
                Output::Partial(partial) => self.store.show(&partial),
                Output::Persist(change) => self.write(Write::Change(change)).await,
                Output::Reply { ticket, reply } => {
                    if let Some(to) = self.replies.remove(&ticket) {
                        self.write(Write::Reply { to, reply }).await;
                    }
                }
                Output::Errand { ticket, customer, errand } => {
                    let inbox = self.inbox.clone();
                    let refused = self.errands.start(customer, errand, move |result| async move {
                        // A control task that is gone has no use for it.
                        if let Some(inbox) = inbox.upgrade() {
                            let _ = inbox.send(Inbound::Errand { ticket, result }).await;
                        }
                    });
                    if let Some(result) = refused {
                        let input = Input::Errand { ticket, result };
                        self.bridge.handle(self.clock.both(), input, &mut self.ports);
                    }
                }
                Output::Note(note) => log(&note),
                Output::Drained => self.drained = true,
            }
        }
    }

    /// Hands a write to the store's writer. Its queue is long; a writer that cannot keep up slows
    /// signalling down rather than losing a change.
    async fn write(&mut self, write: Write) {
        if self.writer.send(write).await.is_err() {
            error!("the store's writer is gone; changes are no longer kept");
        }
    }
}

/// Puts a note of the bridge into the log, with the fields a night operator searches by. A field
/// that does not apply is left out.
fn log(note: &Note) {
    let Note { level, call_id, conference, conferencecall, text } = note;
    let call_id = (!call_id.is_empty()).then(|| display(call_id));
    let conference = (!conference.is_nil()).then(|| display(conference));
    let conferencecall = (!conferencecall.is_nil()).then(|| display(conferencecall));
    match level {
        Level::Error => error!(call_id, conference, conferencecall, "{text}"),
        Level::Warn => warn!(call_id, conference, conferencecall, "{text}"),
        Level::Info => info!(call_id, conference, conferencecall, "{text}"),
        Level::Debug => debug!(call_id, conference, conferencecall, "{text}"),
    }
}
