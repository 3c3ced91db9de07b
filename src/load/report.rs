//! What a run found out: the figures, as JSON and for people.

use std::collections::BTreeMap;
use std::fmt;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::process::Reading;
use crate::time::Duration;

/// The longest time a histogram tells apart; longer ones count as this.
const HISTOGRAM_MAX_US: u64 = 60_000_000;
/// Decimal digits that a histogram keeps.
const HISTOGRAM_DIGITS: u8 = 3;

/// A distribution of times.
#[derive(Clone, Debug)]
pub struct Times(Histogram<u64>);

impl Default for Times {
    fn default() -> Times {
        let histogram = Histogram::new_with_bounds(1, HISTOGRAM_MAX_US, HISTOGRAM_DIGITS);
        Times(histogram.expect("the bounds are constants in order"))
    }
}

impl Times {
    /// Counts one time.
    pub fn record(&mut self, time: Duration) {
        self.0.saturating_record(u64::try_from(time.as_micros()).unwrap_or(HISTOGRAM_MAX_US));
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The time that `quantile` (0 to 1) of them do not exceed, in milliseconds.
    pub fn quantile_ms(&self, quantile: f64) -> f64 {
        if self.0.is_empty() { 0.0 } else { round(self.0.value_at_quantile(quantile) as f64 / 1000.0, 3) }
    }

    /// Median, 99th percentile and maximum.
    pub fn spread(&self) -> Spread {
        Spread { p50: self.quantile_ms(0.5), p99: self.quantile_ms(0.99), max: self.quantile_ms(1.0) }
    }
}

/// A number with so many decimals.
fn round(value: f64, decimals: i32) -> f64 {
    let scale = 10f64.powi(decimals);
    (value * scale).round() / scale
}

/// A distribution in three numbers, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    /// Half are not longer.
    pub p50: f64,
    /// 99 % are not longer.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

/// Latency that the server adds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Latency {
    /// The median, in milliseconds.
    pub p50: f64,
    /// The 95th percentile, in milliseconds.
    pub p95: f64,
    /// The longest, in milliseconds.
    pub max: f64,
    /// How many marks were found.
    pub count: u64,
    /// How many were sent to someone who should have heard them and did not.
    pub missed: u64,
}

/// Who heard whom, by tones late in the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Heard {
    /// Calls whose sound was examined.
    pub listeners: u32,
    /// Pairs of talker and listener that should be.
    pub expected: u32,
    /// Of these, pairs in which the listener did not hear the talker.
    pub missing: u32,
    /// Tones heard by someone who should not have heard them.
    pub wrong: u32,
    /// Whether the server echoes: everyone is expected to hear itself and nobody else.
    pub echo: bool,
}

/// What the server process cost.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ProcessUse {
    /// CPU time (user and system) per call and second, in microseconds.
    pub cpu_us_per_call_second: f64,
    /// CPU seconds in user mode during the measured time.
    pub user_s: f64,
    /// CPU seconds in the kernel during the measured time.
    pub system_s: f64,
    /// CPU microseconds per call and second by thread name.
    pub threads: BTreeMap<String, f64>,
    /// Resident memory before the first call, in KiB.
    pub rss_before_kib: u64,
    /// Resident memory at the end of the measured time, in KiB.
    pub rss_kib: u64,
    /// The most resident memory of the process's life, in KiB.
    pub rss_peak_kib: u64,
    /// Growth of resident memory per answered call, in KiB.
    pub kib_per_call: f64,
}

impl ProcessUse {
    /// The cost between `from` and `to`, `seconds` apart, with `calls` answered; `before` is the
    /// reading before the first of them.
    pub fn between(before: &Reading, from: &Reading, to: &Reading, calls: u32, seconds: f64) -> ProcessUse {
        let call_seconds = (f64::from(calls) * seconds).max(f64::MIN_POSITIVE);
        let per_call_second = |us: u64| if calls == 0 { 0.0 } else { round(us as f64 / call_seconds, 2) };
        let user = to.user_us.saturating_sub(from.user_us);
        let system = to.system_us.saturating_sub(from.system_us);
        let threads = to.threads_us.iter().map(|(name, us)| {
            let earlier = from.threads_us.get(name).copied().unwrap_or(0);
            (name.clone(), per_call_second(us.saturating_sub(earlier)))
        });
        let grown = to.rss_kib.saturating_sub(before.rss_kib);
        ProcessUse {
            cpu_us_per_call_second: per_call_second(user + system),
            user_s: user as f64 / 1e6,
            system_s: system as f64 / 1e6,
            threads: threads.filter(|(_, cost)| *cost > 0.0).collect(),
            rss_before_kib: before.rss_kib,
            rss_kib: to.rss_kib,
            rss_peak_kib: to.rss_peak_kib,
            kib_per_call: if calls == 0 { 0.0 } else { round(grown as f64 / f64::from(calls), 2) },
        }
    }
}

/// What the load source itself cost, and how well it kept time.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LoadUse {
    /// CPU time per call and second, in microseconds.
    pub cpu_us_per_call_second: f64,
    /// CPU seconds in user mode during the measured time.
    pub user_s: f64,
    /// CPU seconds in the kernel during the measured time.
    pub system_s: f64,
    /// What drives the sockets.
    pub backend: String,
    /// The distance of the moments at which arrivals are noticed, in milliseconds.
    pub slot_ms: f64,
    /// How late those moments were: what is added to some arrival times by ourselves.
    pub slot_late_ms: Spread,
    /// Packets of ours that the kernel did not take.
    pub send_errors: u64,
}

/// Everything a run found out. The field names are the command's contract.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// Calls asked for.
    pub calls: u32,
    /// Rooms dialled.
    pub rooms: u32,
    /// Talkers in each room.
    pub talkers: u32,
    /// The measured time in seconds.
    pub seconds: f64,
    /// Calls answered with 200.
    pub answered: u32,
    /// Calls not answered, by final status; `timeout` when none came, `no media` when the answer
    /// had no address for audio.
    pub failed: BTreeMap<String, u32>,
    /// Calls that the server ended.
    pub ended_early: u32,
    /// Calls whose BYE was never answered.
    pub bye_unanswered: u32,
    /// From the first INVITE to its 200, in milliseconds.
    pub setup_ms: Spread,
    /// RTP packets sent in the measured time.
    pub packets_sent: u64,
    /// RTP packets that should have come back in it.
    pub packets_expected: u64,
    /// RTP packets that came.
    pub packets_received: u64,
    /// Received over expected.
    pub packets_back: f64,
    /// The part of packets missing by their sequence numbers.
    pub loss: f64,
    /// Packets that came after one with a later sequence number.
    pub reordered: u64,
    /// Packets that came again.
    pub duplicated: u64,
    /// Between two packets of a call, in milliseconds.
    pub gap_ms: Spread,
    /// The same while calls were being set up.
    pub setup_gap_ms: Spread,
    /// Who heard whom.
    pub heard: Heard,
    /// Added by the server.
    pub latency_ms: Latency,
    /// The cost of the process named by `--pid`.
    pub server: Option<ProcessUse>,
    /// The cost of ourselves.
    pub load: LoadUse,
    /// Whether the run was cut short by ctrl-C.
    pub interrupted: bool,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "calls          {} of {} answered in {} rooms, {} talkers each",
            self.answered, self.calls, self.rooms, self.talkers
        )?;
        for (status, count) in &self.failed {
            writeln!(f, "  failed       {count} with {status}")?;
        }
        if self.ended_early + self.bye_unanswered > 0 {
            writeln!(
                f,
                "  ended        {} by the server, {} BYEs not answered",
                self.ended_early, self.bye_unanswered
            )?;
        }
        writeln!(f, "set-up         {} ms", self.setup_ms)?;
        writeln!(
            f,
            "packets back   {:.4} ({} of {}), loss {:.4} %, {} reordered, {} duplicated",
            self.packets_back,
            self.packets_received,
            self.packets_expected,
            self.loss * 100.0,
            self.reordered,
            self.duplicated
        )?;
        writeln!(f, "gaps           {} ms (while setting up: {})", self.gap_ms, self.setup_gap_ms)?;
        let heard = &self.heard;
        let mode = if heard.echo { " (the server echoes)" } else { "" };
        writeln!(
            f,
            "who hears whom {} of {} pairs heard, {} wrong, {} listeners{mode}",
            heard.expected - heard.missing,
            heard.expected,
            heard.wrong,
            heard.listeners
        )?;
        let latency = &self.latency_ms;
        writeln!(
            f,
            "added latency  p50 {} p95 {} max {} ms ({} marks, {} missed)",
            latency.p50, latency.p95, latency.max, latency.count, latency.missed
        )?;
        if let Some(server) = &self.server {
            write_server(f, server)?;
        }
        let load = &self.load;
        write!(
            f,
            "load source    {} µs of CPU per call-second ({} s user, {} s system) on {}, slots of {} ms late by {} ms",
            load.cpu_us_per_call_second,
            load.user_s,
            load.system_s,
            load.backend,
            load.slot_ms,
            load.slot_late_ms
        )
    }
}

/// The lines of the measured process.
fn write_server(f: &mut fmt::Formatter<'_>, server: &ProcessUse) -> fmt::Result {
    writeln!(
        f,
        "server         {} µs of CPU per call-second ({} s user, {} s system)",
        server.cpu_us_per_call_second, server.user_s, server.system_s
    )?;
    for (name, cost) in &server.threads {
        writeln!(f, "  thread       {name}: {cost} µs per call-second")?;
    }
    writeln!(
        f,
        "  memory       {} KiB before, {} KiB at the end, {} KiB at most: {} KiB per call",
        server.rss_before_kib, server.rss_kib, server.rss_peak_kib, server.kib_per_call
    )
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p50 {} p99 {} max {}", self.p50, self.p99, self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_times() {
        let mut times = Times::default();
        assert_eq!(times.spread(), Spread::default());
        (1..=1000).for_each(|ms| times.record(Duration::from_millis(ms)));
        let spread = times.spread();
        assert!(
            (spread.p50 - 500.0).abs() < 1.0
                && (spread.p99 - 990.0).abs() < 1.0
                && (spread.max - 1000.0).abs() < 1.0
        );
        times.record(Duration::from_secs(3600));
        assert!(times.spread().max >= 60_000.0, "too long a time is kept at the limit");
    }

    #[test]
    fn cost_is_per_call_and_second_of_the_interval_alone() {
        let reading = |user_us, system_us, media_us, rss_kib| Reading {
            user_us,
            system_us,
            threads_us: BTreeMap::from([("media".to_owned(), media_us), ("idle".to_owned(), 7)]),
            rss_kib,
            rss_peak_kib: rss_kib + 5,
        };
        let (before, from, to) =
            (reading(0, 0, 0, 1000), reading(10_000, 5000, 100, 1500), reading(60_000, 55_000, 80_100, 2000));
        let cost = ProcessUse::between(&before, &from, &to, 100, 10.0);
        assert_eq!(cost.cpu_us_per_call_second, 100.0);
        assert_eq!((cost.user_s, cost.system_s), (0.05, 0.05));
        assert_eq!(cost.threads, BTreeMap::from([("media".to_owned(), 80.0)]));
        assert_eq!((cost.kib_per_call, cost.rss_peak_kib), (10.0, 2005));
        assert_eq!(ProcessUse::between(&before, &from, &to, 0, 10.0).cpu_us_per_call_second, 0.0);
    }

    #[test]
    fn the_json_has_the_documented_names() {
        let json = serde_json::to_value(Report { server: Some(ProcessUse::default()), ..Report::default() })
            .expect("a plain value");
        for path in [
            "/answered",
            "/failed",
            "/ended_early",
            "/setup_ms/p99",
            "/packets_sent",
            "/packets_expected",
            "/packets_back",
            "/loss",
            "/reordered",
            "/duplicated",
            "/gap_ms/max",
            "/setup_gap_ms/p50",
            "/heard/listeners",
            "/heard/missing",
            "/heard/wrong",
            "/heard/echo",
            "/latency_ms/p95",
            "/latency_ms/missed",
            "/server/cpu_us_per_call_second",
            "/server/threads",
            "/server/kib_per_call",
            "/load/cpu_us_per_call_second",
            "/load/backend",
            "/load/slot_ms",
            "/load/slot_late_ms/p99",
        ] {
            assert!(json.pointer(path).is_some(), "{path}");
        }
    }

    #[test]
    fn people_read_what_went_wrong() {
        let failed = BTreeMap::from([("404".to_owned(), 3)]);
        let text = Report { calls: 5, answered: 2, failed, ..Report::default() }.to_string();
        assert!(text.contains("2 of 5 answered") && text.contains("3 with 404"), "{text}");
    }
}
