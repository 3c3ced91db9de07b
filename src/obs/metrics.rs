//! Metrics, gathered when they are asked for: whoever owns a number registers a collector that
//! writes it into an [`Exposition`]. Nothing is counted twice and the hot path knows nothing of it.
//!
//! Names begin with `confab_`, end in their unit, and counters in `_total`.

use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use super::histogram::HistogramReading;

/// Collectors at most: one per part of the server.
const COLLECTORS_MAX: usize = 64;

/// The text format of Prometheus, version 0.0.4, as it grows.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
}

impl Exposition {
    /// One number that only grows; `name` ends in `_total`.
    pub fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.counters(name, help, &[(&[], value)]);
    }

    /// A number that only grows, for each set of labels.
    pub fn counters(&mut self, name: &str, help: &str, samples: &[(&[(&str, &str)], u64)]) {
        self.head(name, help, "counter");
        for (labels, value) in samples {
            self.sample(name, labels, *value as f64);
        }
    }

    /// One number that goes up and down.
    pub fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.gauges(name, help, &[(&[], value)]);
    }

    /// A number that goes up and down, for each set of labels.
    pub fn gauges(&mut self, name: &str, help: &str, samples: &[(&[(&str, &str)], f64)]) {
        self.head(name, help, "gauge");
        for (labels, value) in samples {
            self.sample(name, labels, *value);
        }
    }

    /// How values are spread; `name` ends in the unit, `_seconds`.
    pub fn histogram(&mut self, name: &str, help: &str, seen: &HistogramReading) {
        self.head(name, help, "histogram");
        let bucket = format!("{name}_bucket");
        for (bound_s, count) in &seen.buckets {
            self.sample(&bucket, &[("le", &bound_s.to_string())], *count as f64);
        }
        self.sample(&bucket, &[("le", "+Inf")], seen.count as f64);
        self.sample(&format!("{name}_sum"), &[], seen.sum_s);
        self.sample(&format!("{name}_count"), &[], seen.count as f64);
    }

    /// The text so far.
    pub fn into_text(self) -> String {
        self.text
    }

    fn head(&mut self, name: &str, help: &str, kind: &str) {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let mut set = String::new();
        for (label, text) in labels {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let comma = if set.is_empty() { "" } else { "," };
            set.push_str(&format!("{comma}{label}=\"{text}\""));
        }
        if set.is_empty() {
            self.line(format_args!("{name} {value}"));
        } else {
            self.line(format_args!("{name}{{{set}}} {value}"));
        }
    }

    fn line(&mut self, line: fmt::Arguments<'_>) {
        self.text.write_fmt(line).expect("writing to a String cannot fail");
        self.text.push('\n');
    }
}

/// A part of the server that tells its numbers.
type Collector = Box<dyn Fn(&mut Exposition) + Send + Sync>;

/// All collectors. Clones share them.
#[derive(Clone, Default)]
pub struct Metrics {
    collectors: Arc<Mutex<Vec<Collector>>>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// A registry that knows of this process: version, CPU time, memory, open files.
    pub fn new() -> Self {
        let metrics = Self::default();
        metrics.register(process);
        metrics
    }

    /// Adds a collector. It must be quick and must not block. Beyond [`COLLECTORS_MAX`] it is
    /// refused, which only a loop that registers can reach.
    pub fn register(&self, collector: impl Fn(&mut Exposition) + Send + Sync + 'static) -> bool {
        let mut collectors = self.collectors.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = collectors.len() < COLLECTORS_MAX;
        if fits {
            collectors.push(Box::new(collector));
        }
        fits
    }

    /// Everything, in the text format of Prometheus.
    pub fn render(&self) -> String {
        let mut exposition = Exposition::default();
        for collector in self.collectors.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            collector(&mut exposition);
        }
        exposition.into_text()
    }
}

/// What the kernel knows of this process. The names are the ones Prometheus's own clients use.
fn process(exposition: &mut Exposition) {
    exposition.gauges(
        "confab_build_info",
        "Always 1; the label tells the version.",
        &[(&[("version", env!("CARGO_PKG_VERSION"))], 1.0)],
    );
    let usage = Usage::read();
    exposition.gauge(
        "process_resident_memory_bytes",
        "Memory of this process that is in RAM.",
        usage.resident_bytes,
    );
    exposition.gauge("process_open_fds", "File descriptors in use.", usage.open_fds);
    exposition.gauge("process_max_fds", "File descriptors allowed.", usage.max_fds);
    exposition.gauge("process_threads", "Threads of this process.", usage.threads);
    exposition.head("process_cpu_seconds_total", "User and system CPU time used.", "counter");
    exposition.sample("process_cpu_seconds_total", &[], usage.cpu_s);
}

/// Numbers out of `/proc/self`; 0 where the kernel does not say.
#[derive(Debug, Default)]
struct Usage {
    resident_bytes: f64,
    open_fds: f64,
    max_fds: f64,
    threads: f64,
    cpu_s: f64,
}

impl Usage {
    fn read() -> Usage {
        // User ABI of Linux: clock ticks of /proc are 1/100 s on every architecture we build for.
        const TICKS_PER_S: f64 = 100.0;
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let status = text("/proc/self/status");
        let field = |name: &str| -> f64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_default()
        };
        let limits = text("/proc/self/limits");
        let files = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
        let stat = text("/proc/self/stat");
        // After the command in parentheses, user and system time are the 12th and 13th fields.
        let times = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks: f64 =
            times.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
        Usage {
            resident_bytes: field("VmRSS:") * 1024.0,
            open_fds: std::fs::read_dir("/proc/self/fd").map_or(0.0, |entries| entries.count() as f64),
            max_fds: files.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_default(),
            threads: field("Threads:"),
            cpu_s: ticks / TICKS_PER_S,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_written_with_help_and_type() {
        let mut exposition = Exposition::default();
        exposition.counter("confab_sip_messages_total", "Messages received.", 3);
        exposition.gauges("confab_calls", "Calls by state.", &[(&[("state", "a\"b\\c\n")], 1.5)]);
        assert_eq!(
            exposition.into_text(),
            "# HELP confab_sip_messages_total Messages received.\n\
             # TYPE confab_sip_messages_total counter\n\
             confab_sip_messages_total 3\n\
             # HELP confab_calls Calls by state.\n\
             # TYPE confab_calls gauge\n\
             confab_calls{state=\"a\\\"b\\\\c\\n\"} 1.5\n"
        );
    }

    #[test]
    fn a_histogram_is_cumulative_and_closed_by_infinity() {
        let histogram = crate::obs::Histogram::new();
        histogram.record(std::time::Duration::from_micros(150));
        histogram.record(std::time::Duration::from_secs(100));
        let mut exposition = Exposition::default();
        exposition.histogram("confab_tick_seconds", "Time of a tick.", &histogram.read());
        let text = exposition.into_text();
        assert!(text.contains("confab_tick_seconds_bucket{le=\"0.0001\"} 0\n"), "{text}");
        assert!(text.contains("confab_tick_seconds_bucket{le=\"0.0002\"} 1\n"), "{text}");
        assert!(text.contains("confab_tick_seconds_bucket{le=\"+Inf\"} 2\n"), "{text}");
        assert!(text.contains("confab_tick_seconds_sum 100.00015\n"), "{text}");
        assert!(text.ends_with("confab_tick_seconds_count 2\n"), "{text}");
    }

    #[test]
    fn the_process_tells_of_itself() {
        let text = Metrics::new().render();
        let value = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).expect(name);
            line.trim().parse().expect("a number")
        };
        assert!(value("process_resident_memory_bytes ") > 1e5, "{text}");
        assert!(value("process_open_fds ") >= 3.0 && value("process_max_fds ") >= 3.0, "{text}");
        assert!(value("process_threads ") >= 1.0, "{text}");
        assert!(text.contains("confab_build_info{version=\""), "{text}");
    }

    #[test]
    fn collectors_are_bounded() {
        let metrics = Metrics::default();
        let taken =
            (0..COLLECTORS_MAX + 5).filter(|_| metrics.register(|e| e.counter("x_total", "x", 1))).count();
        assert_eq!(taken, COLLECTORS_MAX);
        assert_eq!(metrics.render().matches("\nx_total 1\n").count(), COLLECTORS_MAX);
    }
}
