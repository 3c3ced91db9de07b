//! The one reader of clocks, and what makes a media thread wake on time.
//!
//! [`Clock`] counts nanoseconds of `CLOCK_MONOTONIC` from the machine's boot, so every clock of a
//! machine agrees without being passed around, also between processes.

use std::fmt;

use crate::time::{Duration, Instant, Now, Timestamp};

/// Nanoseconds in a second.
const NANOS: u64 = 1_000_000_000;
/// The real-time priority media threads ask for: the lowest, so that the kernel's own threads and
/// an operator's choices stay above them.
const REAL_TIME_PRIORITY: libc::c_int = 1;
/// The niceness asked for when real-time scheduling is refused.
const NICENESS: libc::c_int = -10;
/// How late the kernel may wake a media thread to save a timer interrupt, in nanoseconds. The
/// default of 50 µs would be a fortieth of a slot.
const TIMER_SLACK_NANOS: libc::c_ulong = 1;

/// Both clocks of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock(());

impl Clock {
    /// A clock; all are the same.
    pub fn new() -> Self {
        Self(())
    }

    /// The monotonic time.
    pub fn now(&self) -> Instant {
        let time = read(libc::CLOCK_MONOTONIC);
        Instant::from_nanos((time.tv_sec as u64).saturating_mul(NANOS).saturating_add(time.tv_nsec as u64))
    }

    /// The UTC time.
    pub fn wall(&self) -> Timestamp {
        let time = read(libc::CLOCK_REALTIME);
        Timestamp::from_micros(time.tv_sec.saturating_mul(1_000_000).saturating_add(time.tv_nsec / 1_000))
    }

    /// Both times.
    pub fn both(&self) -> Now {
        Now { instant: self.now(), wall: self.wall() }
    }

    /// Sleeps until `deadline`; returns at once when it has passed. Not cut short by signals.
    pub fn sleep_until(&self, deadline: Instant) {
        let deadline = timespec(Duration::from_nanos(deadline.as_nanos()));
        loop {
            // SAFETY: the timespec lives through the call and the remainder is not asked for.
            let result = unsafe {
                libc::clock_nanosleep(
                    libc::CLOCK_MONOTONIC,
                    libc::TIMER_ABSTIME,
                    &deadline,
                    std::ptr::null_mut(),
                )
            };
            if result != libc::EINTR {
                return;
            }
        }
    }
}

/// Reads a clock that always exists.
fn read(clock: libc::clockid_t) -> libc::timespec {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the answer. Neither of the two clocks can fail.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time
}

/// A length of time in the kernel's form.
pub(super) fn timespec(length: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: libc::time_t::try_from(length.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(length.subsec_nanos() as i32),
    }
}

/// How a media thread is scheduled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// Before every ordinary thread (`SCHED_RR`).
    RealTime,
    /// Before most ordinary threads (a negative niceness).
    Nice,
    /// Like every other thread: the process may not raise it.
    Normal,
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Priority::RealTime => "real-time",
            Priority::Nice => "raised",
            Priority::Normal => "normal",
        })
    }
}

/// Makes the calling thread wake exactly at its deadlines and before others, as far as the process
/// may; returns what it got, for the log. Threads that it starts do not inherit real-time.
pub fn media_thread_priority() -> Priority {
    precise_wakeups();
    let param = libc::sched_param { sched_priority: REAL_TIME_PRIORITY };
    // SAFETY: `param` lives through the call; 0 is the calling thread.
    if unsafe { libc::sched_setscheduler(0, libc::SCHED_RR | libc::SCHED_RESET_ON_FORK, &param) } == 0 {
        return Priority::RealTime;
    }
    // SAFETY: takes numbers only. On Linux the niceness is the calling thread's alone.
    if unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS) } == 0 {
        return Priority::Nice;
    }
    Priority::Normal
}

/// Lets every other thread go before this one.
pub fn be_nice(niceness: libc::c_int) {
    // SAFETY: takes no pointers; on Linux 0 means the calling thread. A refusal changes nothing.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, niceness) };
}

/// Makes the calling thread's sleeps end at their deadline instead of up to 50 µs later.
pub fn precise_wakeups() {
    // SAFETY: takes numbers only. A kernel that refuses leaves the default.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, TIMER_SLACK_NANOS) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_moves_on_and_two_clocks_agree() {
        let first = Clock::new().now();
        let second = Clock::new().now();
        assert!(first > Instant::ZERO);
        assert!(second >= first);
        assert!(second - first < Duration::from_secs(5));
    }

    #[test]
    fn the_wall_clock_is_in_this_century() {
        let text = Clock::new().wall().to_string();
        assert!(text.starts_with("20"), "{text}");
    }

    #[test]
    fn a_sleep_ends_at_its_deadline_and_not_before() {
        let clock = Clock::new();
        let deadline = clock.now() + Duration::from_millis(3);
        clock.sleep_until(deadline);
        let woke = clock.now();
        assert!(woke >= deadline);
        assert!(woke - deadline < Duration::from_secs(2));
        clock.sleep_until(Instant::ZERO);
        assert!(clock.now() - woke < Duration::from_secs(2));
    }

    #[test]
    fn a_media_thread_says_what_it_got() {
        let got = std::thread::spawn(media_thread_priority).join().expect("the thread only asks");
        assert!(["real-time", "raised", "normal"].contains(&got.to_string().as_str()));
    }
}
