//! What a process costs: its CPU time by thread name and its memory, read from `/proc`.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

/// A reading of a process's counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// CPU time in user mode since the process began, in microseconds (10 ms resolution).
    pub user_us: u64,
    /// CPU time in the kernel since the process began, in microseconds (10 ms resolution).
    pub system_us: u64,
    /// CPU time of the living threads by thread name, in microseconds.
    pub threads_us: BTreeMap<String, u64>,
    /// Resident memory now, in KiB.
    pub rss_kib: u64,
    /// The most resident memory so far, in KiB.
    pub rss_peak_kib: u64,
}

/// Reads the counters of process `pid`.
///
/// # Errors
/// When the process does not exist or may not be read.
pub fn read(pid: u32) -> std::io::Result<Reading> {
    let root = PathBuf::from(format!("/proc/{pid}"));
    let (_, user, system) = parse_stat(&fs::read_to_string(root.join("stat"))?).ok_or_else(malformed)?;
    let status = fs::read_to_string(root.join("status"))?;
    let tick_us = tick_us();
    let mut reading = Reading {
        user_us: user * tick_us,
        system_us: system * tick_us,
        threads_us: BTreeMap::new(),
        rss_kib: status_kib(&status, "VmRSS:"),
        rss_peak_kib: status_kib(&status, "VmHWM:"),
    };
    for task in fs::read_dir(root.join("task"))?.flatten() {
        // A thread may end between the listing and the reading.
        let Ok(stat) = fs::read_to_string(task.path().join("stat")) else { continue };
        let Some((name, user, system)) = parse_stat(&stat) else { continue };
        let exact =
            fs::read_to_string(task.path().join("schedstat")).ok().and_then(|text| run_time_us(&text));
        *reading.threads_us.entry(name).or_default() += exact.unwrap_or((user + system) * tick_us);
    }
    Ok(reading)
}

/// A `/proc` file that does not look like one.
fn malformed() -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, "/proc/PID/stat is not in the form of proc(5)")
}

/// Name, user ticks and system ticks of a `stat` file. The name is in parentheses and may hold any
/// character, so it ends at the last parenthesis.
fn parse_stat(text: &str) -> Option<(String, u64, u64)> {
    let (before, after) = text.rsplit_once(')')?;
    let (_, name) = before.split_once('(')?;
    // After the name: field 3 (state) and on; user and system time are fields 14 and 15.
    let mut fields = after.split_ascii_whitespace().skip(11);
    let user = fields.next()?.parse().ok()?;
    let system = fields.next()?.parse().ok()?;
    Some((name.to_owned(), user, system))
}

/// The time on a CPU of a `schedstat` file, which is in nanoseconds.
fn run_time_us(text: &str) -> Option<u64> {
    let nanos: u64 = text.split_ascii_whitespace().next()?.parse().ok()?;
    Some(nanos / 1000)
}

/// A field of a `status` file, in KiB; zero when it is not there.
fn status_kib(status: &str, name: &str) -> u64 {
    let value = status.lines().find_map(|line| line.strip_prefix(name));
    value.and_then(|rest| rest.split_ascii_whitespace().next()).and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// Microseconds in a clock tick of `/proc`.
fn tick_us() -> u64 {
    // SAFETY: sysconf takes a number and touches no memory of ours.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    1_000_000 / u64::try_from(per_second).unwrap_or(100).max(1)
}

/// Raises the limit of open files to what the system allows, and returns it.
pub fn raise_file_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls read and write only the struct they are given.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 && limit.rlim_cur < limit.rlim_max {
            let raised = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
            if libc::setrlimit(libc::RLIMIT_NOFILE, &raised) == 0 {
                limit = raised;
            }
        }
    }
    limit.rlim_cur
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_stat_line_whose_name_is_hostile() {
        let line = "42 (a) b (c) S 1 42 42 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 1 0 100 1 2";
        assert_eq!(parse_stat(line), Some(("a) b (c".to_owned(), 150, 50)));
        assert_eq!(parse_stat("42 (x) S 1"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn reads_memory_and_run_time() {
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!(
            (status_kib(status, "VmRSS:"), status_kib(status, "VmHWM:"), status_kib(status, "VmX:")),
            (1024, 2048, 0)
        );
        assert_eq!(run_time_us("2500000 17 3\n"), Some(2500));
        assert_eq!(run_time_us(""), None);
    }

    #[test]
    fn this_process_has_threads_and_memory() {
        let reading = read(std::process::id()).expect("our own process");
        assert!(reading.rss_kib > 100 && reading.rss_peak_kib >= reading.rss_kib);
        assert!(!reading.threads_us.is_empty());
        assert!(read(u32::MAX).is_err());
    }

    #[test]
    fn the_file_limit_is_at_its_hard_limit_afterwards() {
        let raised = raise_file_limit();
        assert!(raised > 0);
        assert_eq!(raise_file_limit(), raised);
    }
}
