//! `confab call`: a small real SIP phone, made of the bridge's own parts.

mod display;
mod link;
mod media;
mod voice;

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::process::ExitCode;

use bytes::Bytes;

use self::display::Display;
use self::link::Link;
pub use self::media::Quality;
use self::media::{Media, Setup, Sockets};
use self::voice::Voice;
use super::interrupt;
use super::network::Network;
use super::options::CallOptions;
use super::target::{Target, TargetError};
use super::tone::Oscillator;
use super::wave::{self, Recorder, WaveError};
use crate::audio::AudioCodec;
use crate::net::clock::{Clock, precise_wakeups};
use crate::rng::Rng;
use crate::sdp::{self, MediaPlan, Policy, SessionDescription};
use crate::sip::{CallKey, Cause, Endpoint, Event, Rejection, Settings};
use crate::time::{Duration, Instant, Now};

/// How long the answer to our BYE is waited for.
const GOODBYE: Duration = Duration::from_secs(2);
/// The longest sleep: ctrl-C is noticed after it at the latest.
const SLEEP_MAX: Duration = Duration::from_millis(100);
/// The exit code of a call that could not be made at all.
const EXIT_IMPOSSIBLE: u8 = 3;
/// The Q.850 cause of an ordinary end.
const NORMAL_CLEARING: u8 = 16;

/// How a call went.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// We hung up: after the time asked for, or by ctrl-C.
    HungUp,
    /// The other side ended the call.
    Ended(Cause),
    /// The call was refused.
    Refused {
        /// The SIP status.
        status: u16,
        /// The reason phrase.
        reason: String,
    },
    /// Nobody answered in time, or we gave up before.
    NoAnswer,
    /// The answer's media cannot be used.
    NoMedia(String),
}

/// Why a call could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The URI cannot be dialled.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// A file cannot be played or recorded.
    #[error(transparent)]
    Wave(#[from] WaveError),
    /// The signalling connection does not come about or is lost.
    #[error("no connection to {0}: {1}")]
    Link(std::net::SocketAddr, #[source] io::Error),
    /// No sockets for media.
    #[error("cannot open sockets for media: {0}")]
    Sockets(#[source] io::Error),
    /// The system gives no randomness.
    #[error("cannot read /dev/urandom: {0}")]
    Random(#[source] io::Error),
    /// The INVITE could not be made.
    #[error("cannot dial {0}")]
    Invite(String),
}

/// A call that was made, and how it sounded at its end.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    /// How it went.
    pub outcome: Outcome,
    /// How it sounded, if it was answered.
    pub quality: Option<Quality>,
}

/// Makes the call, shows it, and says how it went by the exit code.
pub fn call(options: &CallOptions) -> ExitCode {
    interrupt::watch();
    match dial(options) {
        Ok(finished) => {
            if let Some(quality) = &finished.quality {
                println!("{quality}");
            }
            println!("{}", Verdict { outcome: &finished.outcome, uri: &options.uri });
            ExitCode::from(exit_code(&finished.outcome, options))
        }
        Err(error) => {
            eprintln!("confab call: {error}");
            ExitCode::from(EXIT_IMPOSSIBLE)
        }
    }
}

/// Makes the call and returns when it is over; inside [`call`], ctrl-C hangs up.
///
/// # Errors
/// When the call cannot be made, the signalling connection is lost, or the record cannot be written.
pub fn dial(options: &CallOptions) -> Result<Finished, CallError> {
    precise_wakeups();
    let target = Target::resolve(&options.uri, options.proxy.as_deref())?;
    let mut phone = Phone::open(options, &target)?;
    phone.display.tell(&format!("calling {} at {}", target.uri, target.address));
    phone.invite(&target)?;
    let outcome = phone.run()?;
    let now = phone.clock.both();
    let mut quality = None;
    if let Some(mut media) = phone.media.take() {
        quality = Some(media.quality());
        media.finish(now)?;
    }
    Ok(Finished { outcome, quality })
}

/// The exit code documented in the help.
fn exit_code(outcome: &Outcome, options: &CallOptions) -> u8 {
    match outcome {
        Outcome::HungUp => 0,
        Outcome::Ended(cause) if options.duration.is_none() && matches!(cause.q850, 0 | NORMAL_CLEARING) => 0,
        Outcome::Ended(_) => 2,
        Outcome::Refused { .. } | Outcome::NoAnswer | Outcome::NoMedia(_) => 1,
    }
}

/// A phone with one call.
struct Phone<'a> {
    options: &'a CallOptions,
    clock: Clock,
    rng: Rng,
    link: Link,
    endpoint: Endpoint,
    call: Option<CallKey>,
    offer: Option<SessionDescription>,
    sockets: Option<Sockets>,
    setup: Option<Setup>,
    media: Option<Media>,
    answered: Option<Instant>,
    dialled: Instant,
    codecs: [AudioCodec; 1],
    display: Display,
    outcome: Option<Outcome>,
}

impl<'a> Phone<'a> {
    /// Opens files, sockets and the connection.
    fn open(options: &'a CallOptions, target: &Target) -> Result<Phone<'a>, CallError> {
        let clock = Clock::new();
        let mut rng = seeded().map_err(CallError::Random)?;
        let setup = setup(options)?;
        let link_error = |error| CallError::Link(target.address, error);
        let link = Link::open(options.transport, target.address, options.local).map_err(link_error)?;
        let sockets = Sockets::open(link.flow().local.ip()).map_err(CallError::Sockets)?;
        let settings = Settings { contact_user: "phone".to_owned(), ..Settings::default() };
        Ok(Phone {
            options,
            clock,
            endpoint: Endpoint::new(settings, rng.fork()),
            rng,
            link,
            call: None,
            offer: None,
            sockets: Some(sockets),
            setup: Some(setup),
            media: None,
            answered: None,
            dialled: clock.now(),
            codecs: [options.codec.into()],
            display: Display::new(options.quiet),
            outcome: None,
        })
    }

    /// Sends the INVITE.
    fn invite(&mut self, target: &Target) -> Result<(), CallError> {
        let flow = self.link.flow();
        let policy = self.policy().map_err(CallError::Sockets)?;
        let offer = sdp::offer(&policy);
        let body = Bytes::from(offer.to_string());
        self.offer = Some(offer);
        let from = format!("<sip:phone@{}>", host(flow.local.ip()));
        let dialled = self.endpoint.invite(self.clock.now(), flow, &target.uri, &from, flow.local, body);
        self.call = Some(dialled.map_err(|_| CallError::Invite(target.uri.clone()))?);
        Ok(())
    }

    /// What we bring to a negotiation.
    fn policy(&self) -> io::Result<Policy<'_>> {
        let port = match (&self.sockets, &self.media) {
            (Some(sockets), _) => sockets.port()?,
            (None, Some(media)) => media.port()?,
            (None, None) => 0,
        };
        Ok(Policy {
            codecs: &self.codecs,
            session_id: 1,
            session_version: 1,
            ..Policy::new(self.link.flow().local.ip(), port)
        })
    }

    /// Runs the call to its end, and the farewell after it.
    fn run(&mut self) -> Result<Outcome, CallError> {
        loop {
            self.turn(false)?;
            if let Some(outcome) = self.outcome.take() {
                self.turn(false)?;
                return Ok(outcome);
            }
            if let Some(outcome) = self.end_if_due() {
                self.say_goodbye()?;
                return Ok(outcome);
            }
            self.wait();
        }
    }

    /// One round: what came, what is due, what is sent. True when a message came.
    fn turn(&mut self, closing: bool) -> Result<bool, CallError> {
        let now = self.clock.both();
        let mut heard = false;
        loop {
            match self.link.receive() {
                Ok(Some(message)) => self.endpoint.handle_message(now.instant, self.link.flow(), message),
                Ok(None) => break,
                Err(_) if closing => return Ok(true),
                Err(error) if self.outcome.is_none() => {
                    return Err(CallError::Link(self.link.flow().remote, error));
                }
                Err(_) => break,
            }
            heard = true;
        }
        if self.endpoint.next_timeout().is_some_and(|due| due <= now.instant) {
            self.endpoint.handle_timeout(now.instant);
        }
        while let Some(event) = self.endpoint.poll_event() {
            self.handle_event(now, event);
        }
        if let Some(media) = &mut self.media {
            media.receive(now);
            media.handle_timeout(now)?;
            if let Some(answered) = self.answered.filter(|_| self.display.is_due(now.instant)) {
                self.display.show(now.instant, now.instant.since(answered), &media.quality());
            }
        }
        self.transmit(closing)?;
        Ok(heard)
    }

    /// Sends what the endpoint has to send.
    fn transmit(&mut self, closing: bool) -> Result<(), CallError> {
        while let Some(transmit) = self.endpoint.poll_transmit() {
            let sent = self.link.send(&transmit.bytes);
            if let Err(error) = sent.or_else(|error| if closing { Ok(()) } else { Err(error) }) {
                return Err(CallError::Link(self.link.flow().remote, error));
            }
        }
        Ok(())
    }

    /// What the endpoint tells us.
    fn handle_event(&mut self, now: Now, event: Event) {
        match event {
            Event::Progress { status, .. } => {
                let text = if status == 180 { "ringing".to_owned() } else { format!("progress {status}") };
                if status > 100 {
                    self.display.tell(&text);
                }
            }
            Event::Answered { body, .. } => self.answer(now, &body),
            Event::Rejected { status, reason, .. } => {
                self.outcome = Some(Outcome::Refused { status, reason })
            }
            Event::Ended { cause, .. } => self.outcome = Some(Outcome::Ended(cause)),
            Event::Reinvite { call, body } => self.reinvite(now.instant, call, &body),
            Event::Acked { body, .. } => self.accept_late_answer(now.instant, &body),
            Event::Options { key, .. } | Event::Info { key, .. } => {
                self.endpoint.answer(now.instant, key, 200, "", &[], Bytes::new());
            }
            Event::Invite { call, .. } => self.endpoint.reject(now.instant, call, Rejection::new(486)),
            Event::Cancelled { .. } | Event::ReinviteRejected { .. } => {}
        }
    }

    /// The call is answered: its sound begins.
    fn answer(&mut self, now: Now, body: &[u8]) {
        let plan = match self.plan_of(body) {
            Ok(plan) => plan,
            Err(text) => {
                self.hang_up(now.instant, Cause::interworking(text.clone()));
                self.outcome = Some(Outcome::NoMedia(text));
                return;
            }
        };
        self.display.tell(&format!(
            "answered: {} in packets of {} ms",
            plan.codec.encoding_name(),
            plan.ptime_ms
        ));
        let (Some(sockets), Some(setup)) = (self.sockets.take(), self.setup.take()) else { return };
        if setup.dtmf.is_some() && plan.telephone_event_out.is_none() {
            self.display.tell("the other side takes no key presses: --dtmf is left out");
        }
        self.media = Some(Media::new(now.instant, sockets, plan, setup, self.rng.fork()));
        self.answered = Some(now.instant);
    }

    /// What an answer to our offer settles.
    fn plan_of(&self, body: &[u8]) -> Result<MediaPlan, String> {
        let answer = sdp::parse(body).map_err(|error| error.to_string())?;
        let offer = self.offer.as_ref().ok_or("we made no offer")?;
        sdp::accept_answer(offer, &answer).map_err(|refusal| refusal.text.to_owned())
    }

    /// The other side changes the session, by its offer or by asking for ours.
    fn reinvite(&mut self, now: Instant, call: CallKey, body: &[u8]) {
        let negotiated = self.policy().ok().and_then(|policy| {
            if body.is_empty() {
                return Some((sdp::offer(&policy), None));
            }
            let offer = sdp::parse(body).ok()?;
            sdp::answer(&offer, &policy).ok().map(|(answer, plan)| (answer, Some(plan)))
        });
        let Some((ours, plan)) = negotiated else {
            return self.endpoint.reject_reinvite(now, call, Rejection::new(488));
        };
        self.endpoint.accept_reinvite(now, call, Bytes::from(ours.to_string()));
        match (plan, &mut self.media) {
            (Some(plan), Some(media)) => media.change(now, plan),
            _ => self.offer = Some(ours),
        }
    }

    /// The answer to an offer of ours that came with the ACK.
    fn accept_late_answer(&mut self, now: Instant, body: &[u8]) {
        if let (false, Ok(plan)) = (body.is_empty(), self.plan_of(body))
            && let Some(media) = &mut self.media
        {
            media.change(now, plan);
        }
    }

    /// Ends the call when its time is over, nobody answers, or the user wants it.
    fn end_if_due(&mut self) -> Option<Outcome> {
        let now = self.clock.now();
        let over = match (self.answered, self.options.duration) {
            (Some(answered), Some(duration)) => now.since(answered) >= duration,
            (Some(_), None) => false,
            (None, _) => now.since(self.dialled) >= self.options.ring,
        };
        if !over && !interrupt::requested() {
            return None;
        }
        self.hang_up(now, Cause::normal());
        Some(if self.answered.is_some() { Outcome::HungUp } else { Outcome::NoAnswer })
    }

    /// Says BYE, or CANCEL before the answer.
    fn hang_up(&mut self, now: Instant, cause: Cause) {
        if let Some(call) = self.call.take() {
            self.endpoint.hang_up(now, call, cause);
        }
    }

    /// Stays until the other side knows that the call is over.
    fn say_goodbye(&mut self) -> Result<(), CallError> {
        let until = self.clock.now() + GOODBYE;
        // What came before the BYE was sent is no answer to it.
        self.transmit(true)?;
        while self.clock.now() < until && !self.turn(true)? {
            self.wait();
        }
        Ok(())
    }

    /// Sleeps until something is due or comes.
    fn wait(&self) {
        let now = self.clock.now();
        let media = self.media.as_ref();
        let due = [self.endpoint.next_timeout(), media.map(Media::next_timeout), Some(now + SLEEP_MAX)];
        let until = due.into_iter().flatten().min().unwrap_or(now);
        let sleep = until.since(now);
        let timeout = libc::timespec {
            tv_sec: sleep.as_secs() as libc::time_t,
            tv_nsec: libc::c_long::from(sleep.subsec_nanos() as i32),
        };
        let sockets = media.map(Media::descriptors);
        let poll = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        // A negative descriptor is one that poll passes over.
        let [rtp, rtcp] = sockets.unwrap_or([-1, -1]);
        let mut descriptors = [poll(self.link.descriptor()), poll(rtp), poll(rtcp)];
        let count = descriptors.len() as libc::nfds_t;
        // SAFETY: `count` pollfds and one timespec, alive through the call. How it ends does not
        // matter: whoever called looks at everything again.
        unsafe { libc::ppoll(descriptors.as_mut_ptr(), count, &timeout, std::ptr::null()) };
    }
}

/// What the phone says, records and sends through, as the options ask.
fn setup(options: &CallOptions) -> Result<Setup, WaveError> {
    let voice = match (&options.play, options.tone, options.echo) {
        (Some(path), _, _) => Voice::Wave { samples: wave::read(path)?, position: 0 },
        (None, Some(hz), _) => Voice::Tone(Oscillator::new(hz)),
        (None, None, true) => Voice::Echo,
        (None, None, false) => Voice::Silence,
    };
    Ok(Setup {
        voice,
        dtmf: options.dtmf.clone(),
        network: options.network.map(Network::new),
        recorder: options.record.as_deref().map(Recorder::create).transpose()?,
    })
}

/// A generator that no two calls share: names and sources must differ, and not be guessed.
fn seeded() -> io::Result<Rng> {
    let mut seed = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut seed)?;
    Ok(Rng::from_seed(seed))
}

/// An address as a URI's host.
fn host(ip: IpAddr) -> String {
    if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() }
}

/// An outcome for people.
struct Verdict<'a> {
    outcome: &'a Outcome,
    uri: &'a str,
}

impl fmt::Display for Verdict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let uri = self.uri;
        match self.outcome {
            Outcome::HungUp => write!(f, "hung up"),
            Outcome::Ended(cause) => {
                write!(f, "the other side hung up: {} (cause {})", cause.text, cause.q850)
            }
            Outcome::NoAnswer => write!(f, "no answer from {uri}"),
            Outcome::NoMedia(text) => write!(f, "the answer cannot be used: {text}"),
            Outcome::Refused { status, reason } => match status {
                404 => write!(f, "no such conference: {uri} (404 {reason})"),
                408 => write!(f, "no answer from {uri} (408 {reason})"),
                480 | 486 | 600 => write!(f, "refused: it cannot be joined now ({status} {reason})"),
                488 | 606 => write!(f, "refused: no common codec ({status} {reason})"),
                503 => write!(f, "refused: the server is full or going down ({status} {reason})"),
                _ => write!(f, "refused: {status} {reason}"),
            },
        }
    }
}

impl fmt::Display for Quality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Quality { packets, sent, loss, concealed_ms, delay_ms, .. } = self;
        let jitter_ms = self.jitter.as_secs_f64() * 1000.0;
        write!(
            f,
            "received {packets} packets, sent {sent}; loss {:.2} %, {concealed_ms} ms concealed; jitter {jitter_ms:.1} ms, delay {delay_ms} ms",
            loss * 100.0
        )?;
        match self.round_trip {
            Some(time) => write!(f, ", round trip {:.1} ms", time.as_secs_f64() * 1000.0),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
