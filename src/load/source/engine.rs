//! The loop of the load source: slot after slot through the phases of a run.

use std::io;
use std::net::{IpAddr, UdpSocket};

use indicatif::{ProgressBar, ProgressStyle};

use super::LoadError;
use super::call::{Call, Listener, Room, Speaker, State};
use super::heard::{SAMPLE_LEN, examine};
use super::media::{Field, Sender, Voices, receive, schedule_turns, slots_per_packet, tones_for};
use super::meter::{Meter, Window};
use super::signalling::{Board, Signalling};
use super::wires::Wires;
use crate::load::interrupt;
use crate::load::network::NetworkOptions;
use crate::load::options::LoadOptions;
use crate::load::process::{self, Reading};
use crate::load::report::{Heard, Latency, LoadUse, ProcessUse, Report};
use crate::load::target::Target;
use crate::load::ua::{Dialog, Signature};
use crate::net::clock::{Clock, media_thread_priority, precise_wakeups};
use crate::net::media::Backend;
use crate::rng::Rng;
use crate::time::{Duration, Instant};

/// The time between the last answer and the measured time.
const SETTLE: Duration = Duration::from_millis(1000);
/// Before the end of the measured time, phases stop turning.
const QUIET_END: Duration = Duration::from_millis(1000);
/// Before the end of the measured time, sound is kept for who hears whom: after the last turn.
const SAMPLE_END: Duration = Duration::from_millis(450);
/// How long the answers to the last BYEs are waited for; longer than signalling waits for one.
const HANG_UP_LIMIT: Duration = Duration::from_secs(6);
/// Microseconds between two looks at the signalling timers.
const TIMERS_US: u64 = 20_000;
/// Microseconds between two looks at signalling, where slots are shorter.
const LOOK_US: u64 = 500;
/// Microseconds between two updates of the progress bar.
const PROGRESS_US: u64 = 250_000;

/// Where the run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Calls are dialled and answered.
    SetUp { next: u32 },
    /// Everyone was answered or refused.
    Settle { until: Instant },
    /// The measured time.
    Steady { from: Instant, until: Instant },
    /// Calls hang up.
    HangUp { since: Instant, next: u32 },
}

/// A run.
pub struct Engine<'a> {
    options: &'a LoadOptions,
    clock: Clock,
    wires: Wires,
    signalling: Signalling,
    sender: Sender,
    voices: Voices,
    calls: Vec<Call>,
    rooms: Vec<Room>,
    meter: Meter,
    ports: Ports,
    began: Instant,
    phase: Phase,
    readings: Readings,
    progress: ProgressBar,
    heard: Heard,
    steady: Duration,
}

/// What processes had used at the turns of the run.
#[derive(Default)]
struct Readings {
    server_before: Option<Reading>,
    server_from: Option<Reading>,
    server: Option<ProcessUse>,
    own_from: Reading,
    load: LoadUse,
}

impl<'a> Engine<'a> {
    /// Opens everything a run needs but its RTP sockets.
    pub fn open(options: &'a LoadOptions, targets: Vec<Target>) -> Result<Engine<'a>, LoadError> {
        let clock = Clock::new();
        let mut rng = Rng::from_number(options.seed);
        let local = match (options.local, targets.first()) {
            (Some(ip), _) => ip,
            (None, Some(target)) => target.local_ip().map_err(LoadError::Sockets)?,
            (None, None) => return Err(LoadError::NoRooms),
        };
        let codec = options.codec.into();
        // Not from the seed: a run must not look like a retransmission of the one before it.
        let run = format!("{:x}", clock.wall().as_micros());
        let signature = Signature { run, ip: local, codec, ptime_ms: options.ptime };
        let network = NetworkOptions::new(options.loss, options.jitter, options.seed);
        let network = network.expect("the command line checks loss and jitter");
        let signalling =
            Signalling::open(signature, local, options.sip_sockets).map_err(LoadError::Sockets)?;
        let backend = if options.epoll { Backend::Epoll } else { Backend::Auto };
        let (rooms, calls) = people(options, targets, signalling.sockets(), &mut rng);
        let wires = if options.exact {
            Wires::exact(clock, calls.len())
        } else {
            Wires::batched(backend, calls.len()).map_err(LoadError::Sockets)?
        };
        Ok(Engine {
            options,
            clock,
            wires,
            signalling,
            sender: Sender::new(options.slot_us(), options.ptime, network),
            voices: Voices::new(codec, options.talkers as usize, options.ptime),
            calls,
            rooms,
            meter: Meter { echo: options.echo_server, ..Meter::default() },
            ports: Ports::new(options, local),
            began: clock.now(),
            phase: Phase::SetUp { next: 0 },
            readings: Readings::default(),
            progress: progress_bar(options),
            heard: Heard::default(),
            steady: Duration::ZERO,
        })
    }

    /// Runs from the first INVITE to the last answer to a BYE.
    pub fn run(mut self) -> Result<Report, LoadError> {
        self.readings.server_before = self.read_server()?;
        if self.options.exact {
            // It never sleeps, and must not keep a whole processor from everybody else.
            precise_wakeups();
        } else {
            media_thread_priority();
        }
        self.began = self.clock.now();
        let slot_us = self.options.slot_us();
        // Signalling and phases do not need the fineness of exact slots.
        let look_every = (LOOK_US / slot_us).max(1);
        let mut slot = 0;
        loop {
            let deadline = self.began + Duration::from_micros(slot * slot_us);
            let now = self.wait_until(deadline);
            if self.meter.window == Window::Steady {
                self.meter.late.record(now.since(deadline));
            }
            self.pass(slot, now);
            if slot.is_multiple_of(look_every) {
                self.signal(slot, now);
                if self.advance(now)? {
                    break;
                }
            }
            if slot.is_multiple_of(PROGRESS_US / slot_us) {
                self.show_progress(now);
            }
            slot += 1;
        }
        self.progress.finish_and_clear();
        Ok(self.report())
    }

    /// Waits for a slot to begin; exact ones are too short to sleep.
    fn wait_until(&self, deadline: Instant) -> Instant {
        if !self.options.exact {
            self.clock.sleep_until(deadline);
            return self.clock.now();
        }
        loop {
            let now = self.clock.now();
            if now >= deadline {
                return now;
            }
            std::hint::spin_loop();
        }
    }

    /// One slot: what came, what is due, what is sent.
    fn pass(&mut self, slot: u64, now: Instant) {
        let sampling = matches!(self.phase, Phase::Steady { until, .. } if until.since(now) < SAMPLE_END);
        let mut field = Field {
            calls: &mut self.calls,
            rooms: &mut self.rooms,
            meter: &mut self.meter,
            voices: &self.voices,
        };
        match &mut self.wires {
            Wires::Batched { io, .. } => {
                io.poll(|token, _, datagram| receive(token, datagram, now, sampling, &mut field));
            }
            // A phone looks at what has come when it speaks.
            Wires::Exact(wires) => {
                for &index in self.sender.due(slot) {
                    wires.receive(index, now, |arrived, datagram| {
                        receive(index, datagram, arrived, sampling, &mut field);
                    });
                }
            }
        }
        self.sender.send(self.clock.now(), slot, &mut field, &mut self.wires);
        self.wires.flush();
    }

    /// Messages that came, and requests that are due again.
    fn signal(&mut self, slot: u64, now: Instant) {
        let mut board = Board {
            calls: &mut self.calls,
            rooms: &mut self.rooms,
            meter: &mut self.meter,
            sender: &mut self.sender,
            wires: &mut self.wires,
        };
        self.signalling.receive(self.clock.now(), &mut board);
        if slot.is_multiple_of(TIMERS_US / self.options.slot_us()) {
            self.signalling.handle_timers(now, &mut board);
        }
    }

    /// Moves through the phases; true when the run is over.
    fn advance(&mut self, now: Instant) -> Result<bool, LoadError> {
        match self.phase {
            Phase::HangUp { since, next } => return Ok(self.hang_up(now, since, next)),
            _ if interrupt::requested() => self.begin_hanging_up(now),
            Phase::SetUp { next } => self.set_up(now, next)?,
            Phase::Settle { until } if now >= until => self.begin_measuring(now)?,
            Phase::Steady { from, until } if now >= until => {
                self.end_measuring(from, now)?;
                self.begin_hanging_up(now);
            }
            Phase::Steady { until, .. } if until.since(now) < QUIET_END => {
                self.rooms.iter_mut().for_each(|room| room.next_turn = None);
            }
            _ => {}
        }
        Ok(false)
    }

    /// Dials the calls that are due, and ends the set-up once every call has its answer.
    fn set_up(&mut self, now: Instant, mut next: u32) -> Result<(), LoadError> {
        let due = due(now.since(self.began), self.options.cps).min(self.calls.len() as u32);
        while next < due {
            let call = &mut self.calls[next as usize];
            let (socket, port) = self.ports.bind().map_err(LoadError::Sockets)?;
            call.rtp_port = port;
            self.wires.add(next, socket).map_err(LoadError::Sockets)?;
            self.signalling.invite(self.clock.now(), next, call, &self.rooms[call.room as usize]);
            next += 1;
        }
        let pending = |call: &Call| matches!(call.state, State::Inviting(_) | State::Proceeding { .. });
        self.phase = if next as usize == self.calls.len() && !self.calls.iter().any(pending) {
            self.meter.window = Window::Pause;
            Phase::Settle { until: now + SETTLE }
        } else {
            Phase::SetUp { next }
        };
        Ok(())
    }

    /// The measured time begins.
    fn begin_measuring(&mut self, now: Instant) -> Result<(), LoadError> {
        self.readings.server_from = self.read_server()?;
        self.readings.own_from = read(std::process::id())?;
        schedule_turns(&mut self.rooms, now);
        self.meter.window = Window::Steady;
        self.phase = Phase::Steady { from: now, until: now + self.options.duration };
        Ok(())
    }

    /// The measured time ends: costs are read before anything else is done.
    fn end_measuring(&mut self, from: Instant, now: Instant) -> Result<(), LoadError> {
        self.meter.window = Window::Pause;
        self.steady = now.since(from);
        let seconds = self.steady.as_secs_f64();
        let talking = self.calls.iter().filter(|call| call.is_talking()).count() as u32;
        // The server may have gone by now; then its cost is not known, but ours still is.
        let server = self.read_server().ok().flatten();
        let Readings { server_before, server_from, own_from, .. } = &self.readings;
        let own = ProcessUse::between(own_from, own_from, &read(std::process::id())?, talking, seconds);
        if let (Some(before), Some(from), Some(to)) = (server_before, server_from, server) {
            self.readings.server = Some(ProcessUse::between(before, from, &to, talking, seconds));
        }
        self.readings.load = LoadUse {
            cpu_us_per_call_second: own.cpu_us_per_call_second,
            user_s: own.user_s,
            system_s: own.system_s,
            ..LoadUse::default()
        };
        self.examine_all();
        Ok(())
    }

    /// Who heard whom, from the sound kept.
    fn examine_all(&mut self) {
        self.heard.echo = self.meter.echo;
        for (index, call) in self.calls.iter().enumerate().filter(|(_, call)| call.is_talking()) {
            let should_hear =
                tones_for(index as u32, &self.calls, &self.rooms[call.room as usize], self.meter.echo);
            examine(
                &call.listener.sample,
                self.voices.codec,
                self.voices.amplitude,
                should_hear,
                &mut self.heard,
            );
        }
    }

    /// The calls begin to hang up.
    fn begin_hanging_up(&mut self, now: Instant) {
        self.meter.window = Window::Pause;
        self.phase = Phase::HangUp { since: now, next: 0 };
    }

    /// Hangs up the calls that are due; true once all have ended or had their time.
    fn hang_up(&mut self, now: Instant, since: Instant, mut next: u32) -> bool {
        let count = self.calls.len() as u32;
        let due = due(now.since(since), self.options.cps).min(count);
        while next < due {
            let call = &mut self.calls[next as usize];
            self.signalling.hang_up(now, next, call, &mut self.rooms[call.room as usize]);
            next += 1;
        }
        self.phase = Phase::HangUp { since, next };
        let limit = Duration::from_secs(u64::from(count / self.options.cps.max(1))) + HANG_UP_LIMIT;
        let over = self.calls.iter().all(|call| call.state == State::Over);
        (next == count && over) || now.since(since) > limit
    }

    /// The counters of the process to measure.
    fn read_server(&self) -> Result<Option<Reading>, LoadError> {
        self.options.pid.map(read).transpose()
    }

    /// Shows where the run is.
    fn show_progress(&mut self, now: Instant) {
        let (answered, calls) = (self.signalling.answered, self.calls.len());
        let total = self.options.duration.as_millis() as u64;
        let (position, message) = match self.phase {
            Phase::SetUp { next } => (0, format!("calling: {next} of {calls} dialled, {answered} answered")),
            Phase::Settle { .. } => (0, format!("{answered} of {calls} answered")),
            Phase::Steady { from, .. } => {
                let ratio = self.meter.received as f64 / self.expected(now.since(from)).max(1) as f64;
                let done = now.since(from).as_millis() as u64;
                (
                    done,
                    format!(
                        "{answered} calls, {:.2} % of packets back, gap p99 {} ms",
                        ratio * 100.0,
                        self.meter.gaps.quantile_ms(0.99)
                    ),
                )
            }
            Phase::HangUp { next, .. } => (total, format!("hanging up: {next} of {calls}")),
        };
        self.progress.set_position(position);
        self.progress.set_message(message);
    }

    /// Packets that should come back in `time`.
    fn expected(&self, time: Duration) -> u64 {
        let per_call = time.as_micros() as u64 / (u64::from(self.options.ptime) * 1000);
        per_call * u64::from(self.signalling.answered)
    }

    /// The figures.
    fn report(self) -> Report {
        let expected = self.expected(self.steady);
        let (meter, signalling) = (self.meter, self.signalling);
        let lost = meter.sequences.lost.max(0) as f64;
        let counters = self.wires.counters();
        let errors =
            counters.send_full + counters.send_refused + counters.send_unreachable + counters.send_failed;
        let load = LoadUse {
            backend: self.wires.name().to_owned(),
            slot_ms: self.options.slot_us() as f64 / 1000.0,
            slot_late_ms: meter.late.spread(),
            send_errors: errors,
            ..self.readings.load
        };
        let latency = &meter.latency;
        Report {
            calls: self.options.calls,
            rooms: self.rooms.len() as u32,
            talkers: self.options.talkers,
            seconds: self.steady.as_secs_f64(),
            answered: signalling.answered,
            failed: signalling.failed,
            ended_early: signalling.ended_early,
            bye_unanswered: signalling.bye_unanswered,
            setup_ms: meter.setup.spread(),
            packets_sent: meter.sent,
            packets_expected: expected,
            packets_received: meter.received,
            packets_back: if expected == 0 { 0.0 } else { meter.received as f64 / expected as f64 },
            loss: lost / (lost + meter.sequences.received as f64).max(1.0),
            reordered: meter.sequences.reordered,
            duplicated: meter.sequences.duplicated,
            gap_ms: meter.gaps.spread(),
            setup_gap_ms: meter.setup_gaps.spread(),
            heard: self.heard,
            latency_ms: Latency {
                p50: latency.quantile_ms(0.5),
                p95: latency.quantile_ms(0.95),
                max: latency.quantile_ms(1.0),
                count: latency.count(),
                missed: meter.marks.saturating_sub(latency.count()),
            },
            server: self.readings.server,
            load,
            interrupted: interrupt::requested(),
        }
    }
}

/// Reads a process.
fn read(pid: u32) -> Result<Reading, LoadError> {
    process::read(pid).map_err(|source| LoadError::Process { pid, source })
}

/// How many of a stream of `per_second` are due after `time`.
fn due(time: Duration, per_second: u32) -> u32 {
    let due = time.as_micros() as u64 * u64::from(per_second) / 1_000_000;
    u32::try_from(due).unwrap_or(u32::MAX).saturating_add(1)
}

/// The rooms and the calls in them: call after call is dealt to room after room, and the first of
/// each room are its talkers. Neighbouring rooms speak different tones, so that sound from the
/// wrong room is noticed.
fn people(
    options: &LoadOptions,
    targets: Vec<Target>,
    sip_sockets: u16,
    rng: &mut Rng,
) -> (Vec<Room>, Vec<Call>) {
    let room = |target| Room { target, talkers: Vec::new(), talking: 0, turn: None, next_turn: None };
    let mut rooms: Vec<Room> = targets.into_iter().map(room).collect();
    let mut deck = Vec::new();
    let mut calls = Vec::with_capacity(options.calls as usize);
    for index in 0..options.calls {
        let room_index = index as usize % rooms.len();
        let room = &mut rooms[room_index];
        let tone = (room.talkers.len() < options.talkers as usize).then(|| {
            room.talkers.push(index);
            let first = room_index * options.talkers as usize;
            ((first + room.talkers.len() - 1) % crate::load::tone::TONES) as u8
        });
        calls.push(Call {
            state: State::Waiting,
            room: room_index as u32,
            tone,
            sip_socket: (index % u32::from(sip_sockets.max(1))) as u16,
            invited: Instant::ZERO,
            answered: None,
            rtp_port: 0,
            peer: None,
            dialog: Dialog::default(),
            speaker: speaker(slots_per_packet(options.slot_us(), options.ptime), &mut deck, rng),
            listener: Listener { sample: Vec::with_capacity(SAMPLE_LEN + 480), ..Listener::default() },
        });
    }
    (rooms, calls)
}

/// The rooms and calls of a run of one SIP socket, for tests.
#[cfg(test)]
pub(super) fn deal(options: &LoadOptions) -> (Vec<Room>, Vec<Call>) {
    let targets = super::targets(options).expect("addresses");
    people(options, targets, 1, &mut Rng::from_number(options.seed))
}

/// A sending side with random names, in a slot drawn from a shuffled deck: all slots get equally
/// many calls, and a room's calls have nothing to do with each other's phase.
fn speaker(slots: u16, deck: &mut Vec<u16>, rng: &mut Rng) -> Speaker {
    if deck.is_empty() {
        deck.extend(0..slots);
        for last in (1..deck.len()).rev() {
            deck.swap(last, rng.below(last as u64 + 1) as usize);
        }
    }
    Speaker {
        ssrc: rng.next_u32(),
        sequence: rng.next_u32() as u16,
        timestamp: rng.next_u32(),
        turned: false,
        slot: deck.pop().unwrap_or(0),
    }
}

/// Where RTP sockets come from: a range of ports, or whatever the system gives.
struct Ports {
    ip: IpAddr,
    range: Option<(u16, u16)>,
    next: u16,
}

impl Ports {
    fn new(options: &LoadOptions, ip: IpAddr) -> Ports {
        let range = options.rtp_ports.as_ref().map(|range| (range.start().next_multiple_of(2), *range.end()));
        Ports { ip, range, next: range.map_or(0, |(first, _)| first) }
    }

    /// A bound socket and its port; of a range the next even port that is free.
    fn bind(&mut self) -> io::Result<(UdpSocket, u16)> {
        let socket = match self.range {
            None => UdpSocket::bind((self.ip, 0))?,
            Some((_, last)) => loop {
                let port = self.next;
                if port == 0 || port > last {
                    return Err(io::Error::new(
                        io::ErrorKind::AddrInUse,
                        "every port of --rtp-ports is in use",
                    ));
                }
                self.next = port.checked_add(2).unwrap_or(0);
                if let Ok(socket) = UdpSocket::bind((self.ip, port)) {
                    break socket;
                }
            },
        };
        socket.set_nonblocking(true)?;
        let port = socket.local_addr()?.port();
        Ok((socket, port))
    }
}

/// A bar on the terminal; nothing when told to be quiet or when there is no terminal.
fn progress_bar(options: &LoadOptions) -> ProgressBar {
    if options.quiet {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(options.duration.as_millis() as u64);
    let style = ProgressStyle::with_template("{elapsed_precise} [{bar:30}] {msg}");
    bar.with_style(style.expect("the template is a constant").progress_chars("=> "))
}
