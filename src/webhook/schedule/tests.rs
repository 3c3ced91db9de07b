//! Days of deliveries in milliseconds: receivers that are down, slow, or choke on one conference.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::*;

const SEED: u64 = 0x5eed;
const DAY: Duration = Duration::from_secs(24 * 3600);

fn customer(number: u128) -> CustomerId {
    CustomerId(Uuid::from_u128(number))
}

fn conference(number: u128) -> ConferenceId {
    ConferenceId(Uuid::from_u128(number))
}

fn at(since_start: Duration) -> Now {
    let wall = Timestamp::from_micros(1_700_000_000_000_000).plus(since_start);
    Now { instant: Instant::ZERO + since_start, wall }
}

/// An outbox and receivers without a network, driven by the schedule on a clock that jumps from one
/// due time to the next.
struct World {
    schedule: Schedule,
    now: Duration,
    /// Undelivered rows by conference: position and when it was queued.
    rows: BTreeMap<ConferenceId, Vec<(i64, Timestamp)>>,
    owners: BTreeMap<ConferenceId, CustomerId>,
    position: i64,
    /// When each attempt was made, to whom, and how it went.
    attempts: Vec<(Duration, CustomerId, ConferenceId, bool)>,
    told: BTreeMap<ConferenceId, Vec<i64>>,
    dead: BTreeMap<ConferenceId, Vec<i64>>,
    /// Who is down until when.
    down: BTreeMap<CustomerId, Duration>,
    /// Conferences that their receiver never takes.
    poison: BTreeSet<ConferenceId>,
}

impl World {
    fn new(settings: Settings) -> Self {
        Self {
            schedule: Schedule::new(settings, Rng::from_number(SEED)),
            now: Duration::from_secs(1),
            rows: BTreeMap::new(),
            owners: BTreeMap::new(),
            position: 0,
            attempts: Vec::new(),
            told: BTreeMap::new(),
            dead: BTreeMap::new(),
            down: BTreeMap::new(),
            poison: BTreeSet::new(),
        }
    }

    fn happen(&mut self, of: CustomerId, conference: ConferenceId) {
        self.position += 1;
        let now = at(self.now);
        self.rows.entry(conference).or_default().push((self.position, now.wall));
        self.owners.insert(conference, of);
        self.schedule.arrived(now.instant, of, conference, self.position, now.wall);
    }

    fn run_job(&mut self, job: Job) -> Done {
        let rows = self.rows.entry(job.conference).or_default();
        let mut after = job.after;
        let mut heard = Heard::NotAsked;
        let mut took = 0;
        while let Some(&(position, queued)) = rows.iter().find(|(position, _)| *position > after) {
            match job.what {
                What::GiveUp { queued_by } if queued <= queued_by => {
                    self.dead.entry(job.conference).or_default().push(position);
                }
                What::GiveUp { .. } => break,
                What::Tell => {
                    let down = self.down.get(&job.customer).is_some_and(|until| self.now < *until);
                    let ok = !down && !self.poison.contains(&job.conference);
                    self.attempts.push((self.now, job.customer, job.conference, ok));
                    heard = if ok { Heard::Took } else { Heard::Failed { took } };
                    if !ok {
                        break;
                    }
                    took += 1;
                    self.told.entry(job.conference).or_default().push(position);
                }
            }
            after = position;
        }
        rows.retain(|(position, _)| *position > after);
        let next = rows.first().map_or(Next::Nothing, |(_, queued)| Next::Queued(*queued));
        Done { conference: job.conference, after, next, receiver: heard }
    }

    /// Does everything that is due up to `until`.
    fn run_until(&mut self, until: Duration) {
        loop {
            while let Some(job) = self.schedule.poll(at(self.now)) {
                let done = self.run_job(job);
                self.schedule.done(at(self.now), done);
            }
            let Some(wait) = self.schedule.next_timeout(at(self.now)) else { break };
            if self.now + wait > until {
                break;
            }
            self.now += wait.max(Duration::from_micros(1));
        }
        self.now = self.now.max(until);
    }

    fn left(&self) -> usize {
        self.rows.values().map(Vec::len).sum()
    }
}

#[test]
fn a_receiver_that_is_down_for_a_day_gets_growing_pauses_and_then_dead_letters() {
    let mut world = World::new(Settings::default());
    let (down, well) = (customer(1), customer(2));
    world.down.insert(down, Duration::from_secs(1_000_000));
    for number in 0..50 {
        world.happen(down, conference(100 + number));
        world.happen(well, conference(200 + number));
    }
    world.run_until(Duration::from_secs(2));
    assert_eq!(world.told.len(), 50, "the one that is well has heard all");
    world.run_until(DAY - Duration::from_secs(1));
    assert_eq!(world.left(), 50, "nothing is given up early");
    let tries: Vec<Duration> = world.attempts.iter().filter(|a| a.1 == down).map(|a| a.0).collect();
    assert!((140..400).contains(&tries.len()), "{} attempts in a day", tries.len());
    let late: Vec<Duration> = tries.iter().filter(|t| **t > Duration::from_secs(7200)).copied().collect();
    for pair in late.windows(2) {
        let pause = pair[1] - pair[0];
        assert!(pause >= Duration::from_secs(300) && pause <= Duration::from_secs(601), "{pause:?}");
    }
    world.run_until(DAY + Duration::from_secs(2));
    assert_eq!((world.left(), world.dead.len()), (0, 50), "all are dead letters");
    assert_eq!(world.schedule.lanes(), 0);
    assert_eq!(world.schedule.oldest(), None);
    assert!(world.schedule.receivers.is_empty() && world.schedule.pauses.is_empty());
}

#[test]
fn a_receiver_that_comes_back_hears_everything_in_order_within_the_longest_pause() {
    let mut world = World::new(Settings::default());
    let owner = customer(1);
    let back = Duration::from_secs(5 * 3600);
    world.down.insert(owner, back);
    for second in 1..5 * 3600 {
        if second % 60 == 0 {
            world.run_until(Duration::from_secs(second));
            world.happen(owner, conference(u128::from(second / 60 % 7)));
        }
    }
    world.run_until(back + Duration::from_secs(600));
    assert_eq!(world.left(), 0);
    let told: usize = world.told.values().map(Vec::len).sum();
    assert_eq!(told, 299);
    for positions in world.told.values() {
        assert!(positions.is_sorted(), "{positions:?}");
    }
    assert!(world.dead.is_empty());
}

#[test]
fn a_conference_that_its_receiver_chokes_on_holds_up_no_other_of_the_same_customer() {
    let mut world = World::new(Settings::default());
    let owner = customer(1);
    world.poison.insert(conference(13));
    world.happen(owner, conference(13));
    for minute in 1..=600_u64 {
        world.run_until(Duration::from_secs(minute * 60));
        world.happen(owner, conference(u128::from(minute) + 100));
        world.run_until(Duration::from_secs(minute * 60 + 1));
    }
    world.run_until(Duration::from_secs(601 * 60));
    assert_eq!(world.told.len(), 600);
    assert_eq!(world.left(), 1);
    let tries = world.attempts.iter().filter(|attempt| attempt.2 == conference(13)).count();
    assert!(tries < 120, "it is tried at its own growing pauses: {tries}");
    world.run_until(DAY + Duration::from_secs(2));
    assert_eq!(world.dead[&conference(13)].len(), 1);
}

#[test]
fn runs_at_once_are_bounded_in_all_and_for_each_receiver() {
    let settings = Settings { in_flight_max: 10, in_flight_per_customer_max: 4, ..Settings::default() };
    let mut schedule = Schedule::new(settings, Rng::from_number(SEED));
    let now = at(Duration::from_secs(1));
    for number in 0..60 {
        schedule.arrived(now.instant, customer(number % 3), conference(number), number as i64 + 1, now.wall);
    }
    let jobs: Vec<Job> = std::iter::from_fn(|| schedule.poll(now)).collect();
    assert_eq!(jobs.len(), 10);
    let mut per_customer: BTreeMap<CustomerId, usize> = BTreeMap::new();
    for job in &jobs {
        *per_customer.entry(job.customer).or_default() += 1;
    }
    assert!(per_customer.values().all(|count| (3..=4).contains(count)), "in turn: {per_customer:?}");
    let end = |job: &Job| Done {
        conference: job.conference,
        after: job.after + 1,
        next: Next::Nothing,
        receiver: Heard::Took,
    };
    schedule.done(now, end(&jobs[0]));
    let next = schedule.poll(now).expect("there is room for one again");
    assert!(schedule.poll(now).is_none());
    assert!(jobs.iter().all(|job| job.conference != next.conference));
}

#[test]
fn a_broken_receiver_is_asked_by_one_run_at_a_time() {
    let mut schedule = Schedule::new(Settings::default(), Rng::from_number(SEED));
    let owner = customer(1);
    let start = at(Duration::from_secs(1));
    for number in 0..20 {
        schedule.arrived(start.instant, owner, conference(number), number as i64 + 1, start.wall);
    }
    let jobs: Vec<Job> = std::iter::from_fn(|| schedule.poll(start)).collect();
    assert_eq!(jobs.len(), 20);
    for job in &jobs {
        let receiver = Heard::Failed { took: 0 };
        let next = Next::Queued(start.wall);
        schedule.done(start, Done { conference: job.conference, after: job.after, next, receiver });
    }
    assert_eq!(schedule.broken(), 1);
    assert!(schedule.poll(start).is_none());
    let later = at(Duration::from_secs(700));
    let probe = schedule.poll(later).expect("a probe");
    assert!(schedule.poll(later).is_none(), "one at a time");
    let took = Done {
        conference: probe.conference,
        after: probe.after + 1,
        next: Next::Nothing,
        receiver: Heard::Took,
    };
    schedule.done(later, took);
    assert_eq!(std::iter::from_fn(|| schedule.poll(later)).count(), 19, "all that waited is due");
}

#[test]
fn an_event_that_comes_during_a_run_is_told_by_the_next() {
    let mut schedule = Schedule::new(Settings::default(), Rng::from_number(SEED));
    let now = at(Duration::from_secs(1));
    schedule.arrived(now.instant, customer(1), conference(1), 7, now.wall);
    let job = schedule.poll(now).expect("a job");
    assert_eq!(job.after, 6);
    schedule.arrived(now.instant, customer(1), conference(1), 9, now.wall);
    assert!(schedule.poll(now).is_none(), "one run a conference");
    let done = Done { conference: conference(1), after: 7, next: Next::Nothing, receiver: Heard::Took };
    schedule.done(now, done);
    assert_eq!(schedule.poll(now).map(|job| job.after), Some(7));
}
