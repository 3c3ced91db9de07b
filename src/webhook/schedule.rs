//! What is due when, without I/O: which conference's events may be told now, which must wait, which
//! are too old.
//!
//! A conference is a lane: one run at a time, so its events stay in order. A customer's server is a
//! receiver: it gets a share of the runs at once, and one that fails again and again is asked by one
//! run at a time, at growing intervals, until it answers; then everything that waited for it is due.
//! So neither a dead receiver nor a single conference that it chokes on holds up anything else.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::lane::{Lane, Receiver, State};
use crate::id::{ConferenceId, CustomerId};
use crate::rng::Rng;
use crate::time::{Duration, Instant, Now, Timestamp};

/// Failures in a row, over all its conferences, after which a receiver counts as broken.
pub const BROKEN_AFTER: u32 = 3;

/// How much at once, how soon again, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Runs at once.
    pub in_flight_max: usize,
    /// Runs at once to one receiver.
    pub in_flight_per_customer_max: usize,
    /// The wait after the first failure; doubles with each further one.
    pub backoff_first: Duration,
    /// The longest wait.
    pub backoff_max: Duration,
    /// An event older than this is given up.
    pub age_max: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            in_flight_max: 256,
            in_flight_per_customer_max: 32,
            backoff_first: Duration::from_secs(1),
            backoff_max: Duration::from_secs(600),
            age_max: Duration::from_secs(24 * 3600),
        }
    }
}

/// What is to be done with a conference's events after `after`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// The conference.
    pub conference: ConferenceId,
    /// Whose it is.
    pub customer: CustomerId,
    /// The last position that is dealt with.
    pub after: i64,
    /// What to do.
    pub what: What,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Tell them, until one fails.
    Tell,
    /// Give up those that were queued up to then.
    GiveUp {
        /// The latest time that is too old.
        queued_by: Timestamp,
    },
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// The conference.
    pub conference: ConferenceId,
    /// The last position that is dealt with now.
    pub after: i64,
    /// What is next in this conference.
    pub next: Next,
    /// What the receiver did.
    pub receiver: Heard,
}

/// What is next in a conference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing that the job saw.
    Nothing,
    /// An event that was queued then.
    Queued(Timestamp),
}

/// What the receiver did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It took everything it was told.
    Took,
    /// It took some, or none, and then failed.
    Failed {
        /// How many it took before.
        took: u32,
    },
    /// It was not asked.
    NotAsked,
    /// It was not asked since we could not read what to tell.
    Unread,
}

/// The schedule. See the module.
#[derive(Debug)]
pub struct Schedule {
    settings: Settings,
    rng: Rng,
    /// Bounded by the outbox's rows.
    lanes: BTreeMap<ConferenceId, Lane>,
    receivers: BTreeMap<CustomerId, Receiver>,
    /// Receivers that may be asked now, in turn.
    round: VecDeque<CustomerId>,
    /// Lanes by the end of their wait.
    waits: BTreeSet<(Instant, ConferenceId)>,
    /// Broken receivers by the end of their pause.
    pauses: BTreeSet<(Instant, CustomerId)>,
    /// All lanes by the age of their first event.
    ages: BTreeSet<(Timestamp, ConferenceId)>,
    in_flight: usize,
    /// The last number given to a lane in line.
    ticket: u64,
}

impl Schedule {
    /// A schedule with nothing in it.
    pub fn new(settings: Settings, rng: Rng) -> Self {
        Self {
            settings,
            rng,
            lanes: BTreeMap::new(),
            receivers: BTreeMap::new(),
            round: VecDeque::new(),
            waits: BTreeSet::new(),
            pauses: BTreeSet::new(),
            ages: BTreeSet::new(),
            in_flight: 0,
            ticket: 0,
        }
    }

    /// Holds to other settings from now on.
    pub fn change(&mut self, now: Instant, settings: Settings) {
        self.settings = settings;
        let receivers: Vec<CustomerId> = self.receivers.keys().copied().collect();
        for customer in receivers {
            self.offer(now, customer);
        }
    }

    /// An event came into the outbox. Positions of a conference come in rising order.
    pub fn arrived(
        &mut self,
        now: Instant,
        customer: CustomerId,
        conference: ConferenceId,
        position: i64,
        queued: Timestamp,
    ) {
        if let Some(lane) = self.lanes.get_mut(&conference) {
            if lane.state == State::InFlight {
                lane.arrived.get_or_insert(queued);
            }
            return;
        }
        let state = State::InFlight;
        let lane = Lane { customer, after: position - 1, queued, failures: 0, state, arrived: None };
        self.lanes.insert(conference, lane);
        self.ages.insert((queued, conference));
        self.line_up(now, conference);
    }

    /// The next thing to do, if anything is due and allowed. Each job must be answered by
    /// [`Schedule::done`].
    pub fn poll(&mut self, now: Now) -> Option<Job> {
        self.wake(now.instant);
        if self.in_flight >= self.settings.in_flight_max {
            return None;
        }
        if let Some(job) = self.poll_age(now) {
            return Some(job);
        }
        while let Some(customer) = self.round.pop_front() {
            let Some(receiver) = self.receivers.get_mut(&customer) else { continue };
            receiver.in_round = false;
            if !may_ask(&self.settings, receiver, now.instant) {
                continue;
            }
            let Some((_, conference)) = receiver.ready.pop_first() else { continue };
            let job = self.start(conference, What::Tell);
            self.offer(now.instant, customer);
            if job.is_some() {
                return job;
            }
        }
        None
    }

    /// A job has ended.
    pub fn done(&mut self, now: Now, done: Done) {
        let Done { conference, after, next, receiver: heard } = done;
        let Some(mut lane) = self.lanes.remove(&conference) else { return };
        self.ages.remove(&(lane.queued, conference));
        self.in_flight = self.in_flight.saturating_sub(1);
        let customer = lane.customer;
        lane.after = after;
        let wait = self.judge(now.instant, &mut lane, heard);
        let next = match (next, lane.arrived.take()) {
            (Next::Queued(queued), _) | (Next::Nothing, Some(queued)) => Some(queued),
            (Next::Nothing, None) => None,
        };
        let receiver = self.receivers.entry(customer).or_default();
        receiver.in_flight = receiver.in_flight.saturating_sub(1);
        if let Some(queued) = next {
            let until = now.instant + wait;
            lane.queued = queued;
            lane.state = State::Waiting(until);
            receiver.waiting.insert(conference);
            self.waits.insert((until, conference));
            self.ages.insert((queued, conference));
            self.lanes.insert(conference, lane);
            if wait.is_zero() {
                self.line_up(now.instant, conference);
            }
        }
        self.offer(now.instant, customer);
    }

    /// How long until something is due that time alone makes due.
    pub fn next_timeout(&self, now: Now) -> Option<Duration> {
        let wait = self.waits.first().map(|(at, _)| at.since(now.instant));
        let pause = self.pauses.first().map(|(at, _)| at.since(now.instant));
        let first = self.ages.iter().find(|(_, conference)| !self.is_in_flight(*conference));
        let age = first.map(|(queued, _)| queued.plus(self.settings.age_max).since(now.wall));
        [wait, pause, age].into_iter().flatten().min()
    }

    /// When the oldest event that is not told was queued.
    pub fn oldest(&self) -> Option<Timestamp> {
        self.ages.first().map(|(queued, _)| *queued)
    }

    /// Runs under way.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Conferences with events that are not told.
    pub fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// Receivers that count as broken.
    pub fn broken(&self) -> usize {
        self.receivers.values().filter(|receiver| receiver.failures >= BROKEN_AFTER).count()
    }

    /// Learns from what the receiver did; returns how long the lane waits.
    fn judge(&mut self, now: Instant, lane: &mut Lane, heard: Heard) -> Duration {
        let took = match heard {
            Heard::Took => true,
            Heard::Failed { took } => took > 0,
            Heard::NotAsked => return Duration::ZERO,
            Heard::Unread => return self.settings.backoff_first,
        };
        if took {
            lane.failures = 0;
            self.recovered(now, lane.customer);
        }
        if heard == Heard::Took {
            return Duration::ZERO;
        }
        lane.failures = lane.failures.saturating_add(1);
        let wait = self.backoff(lane.failures);
        let failures = {
            let receiver = self.receivers.entry(lane.customer).or_default();
            receiver.failures = receiver.failures.saturating_add(1);
            receiver.failures
        };
        if failures >= BROKEN_AFTER {
            let not_before = now + self.backoff(failures);
            self.receivers.entry(lane.customer).or_default().not_before = not_before;
        }
        wait
    }

    /// The receiver answers. If it was broken, what waited for it need not wait longer.
    fn recovered(&mut self, now: Instant, customer: CustomerId) {
        let Some(receiver) = self.receivers.get_mut(&customer) else { return };
        let was_broken = std::mem::take(&mut receiver.failures) >= BROKEN_AFTER;
        if !was_broken {
            return;
        }
        receiver.not_before = Instant::ZERO;
        for conference in receiver.waiting.clone() {
            self.line_up(now, conference);
        }
    }

    /// Puts a lane into its receiver's line, wherever it was.
    fn line_up(&mut self, now: Instant, conference: ConferenceId) {
        let Some(customer) = self.leave_line(conference) else { return };
        self.ticket += 1;
        let ticket = self.ticket;
        if let Some(lane) = self.lanes.get_mut(&conference) {
            lane.state = State::Ready(ticket);
        }
        self.receivers.entry(customer).or_default().ready.insert(ticket, conference);
        self.offer(now, customer);
    }

    /// Takes a lane from where it waits; returns whose it is.
    fn leave_line(&mut self, conference: ConferenceId) -> Option<CustomerId> {
        let lane = self.lanes.get(&conference)?;
        let receiver = self.receivers.entry(lane.customer).or_default();
        match lane.state {
            State::Waiting(until) => {
                self.waits.remove(&(until, conference));
                receiver.waiting.remove(&conference);
            }
            State::Ready(ticket) => drop(receiver.ready.remove(&ticket)),
            State::InFlight => {}
        }
        Some(lane.customer)
    }

    /// The wait after so many failures: doubled each time, and of that a random half, so that those
    /// who failed together do not come back together.
    fn backoff(&mut self, failures: u32) -> Duration {
        let doubled = self.settings.backoff_first.saturating_mul(1 << failures.saturating_sub(1).min(20));
        let whole = doubled.min(self.settings.backoff_max);
        let half = whole / 2;
        let micros = u64::try_from(half.as_micros()).unwrap_or(u64::MAX);
        half + Duration::from_micros(self.rng.below(micros.saturating_add(1)))
    }

    /// Ends the waits and pauses that are over.
    fn wake(&mut self, now: Instant) {
        while let Some(&(until, conference)) = self.waits.first()
            && until <= now
        {
            self.waits.pop_first();
            self.line_up(now, conference);
        }
        while let Some(&(until, customer)) = self.pauses.first()
            && until <= now
        {
            self.pauses.pop_first();
            self.offer(now, customer);
        }
    }

    /// A lane whose first event is too old. At most as many are passed over as are in flight.
    fn poll_age(&mut self, now: Now) -> Option<Job> {
        let age_max = self.settings.age_max;
        let old = self.ages.iter().take_while(|(queued, _)| queued.plus(age_max) <= now.wall);
        let (_, conference) = *old.into_iter().find(|(_, conference)| !self.is_in_flight(*conference))?;
        self.leave_line(conference)?;
        let age_us = i64::try_from(age_max.as_micros()).unwrap_or(i64::MAX);
        let queued_by = Timestamp::from_micros(now.wall.as_micros().saturating_sub(age_us));
        self.start(conference, What::GiveUp { queued_by })
    }

    fn is_in_flight(&self, conference: ConferenceId) -> bool {
        self.lanes.get(&conference).is_some_and(|lane| lane.state == State::InFlight)
    }

    fn start(&mut self, conference: ConferenceId, what: What) -> Option<Job> {
        let lane = self.lanes.get_mut(&conference)?;
        lane.state = State::InFlight;
        self.receivers.entry(lane.customer).or_default().in_flight += 1;
        self.in_flight += 1;
        Some(Job { conference, customer: lane.customer, after: lane.after, what })
    }

    /// Puts the receiver into the round where it has something to hear and may be asked, or notes when
    /// it may; forgets it where nothing is left of it.
    fn offer(&mut self, now: Instant, customer: CustomerId) {
        let Some(receiver) = self.receivers.get_mut(&customer) else { return };
        if receiver.is_idle() {
            self.pauses.remove(&(receiver.not_before, customer));
            self.receivers.remove(&customer);
        } else if receiver.in_round || receiver.ready.is_empty() {
            // It stands there already, or has nothing to hear.
        } else if may_ask(&self.settings, receiver, now) {
            receiver.in_round = true;
            self.round.push_back(customer);
        } else if receiver.not_before > now {
            self.pauses.insert((receiver.not_before, customer));
        }
    }
}

/// Whether this receiver may be asked once more now. A broken one is asked by one run at a time.
fn may_ask(settings: &Settings, receiver: &Receiver, now: Instant) -> bool {
    let at_once = if receiver.failures >= BROKEN_AFTER { 1 } else { settings.in_flight_per_customer_max };
    receiver.in_flight < at_once && receiver.not_before <= now
}

#[cfg(test)]
mod tests;
