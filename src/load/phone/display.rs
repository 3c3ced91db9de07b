//! What the phone shows: one live line on a terminal, plain lines elsewhere.

use std::io::{IsTerminal, Write};

use super::media::Quality;
use crate::time::{Duration, Instant};

/// Between two updates of the live line.
const LIVE_EVERY: Duration = Duration::from_millis(200);
/// Between two plain lines.
const PLAIN_EVERY: Duration = Duration::from_secs(5);
/// Cells of the level bar, and the level of an empty one.
const BAR_CELLS: usize = 20;
const BAR_FLOOR_DBOV: f64 = -60.0;

/// Where the phone's state is shown.
pub struct Display {
    quiet: bool,
    live: bool,
    shown: Option<Instant>,
}

impl Display {
    /// On standard error, so that standard output stays free.
    pub fn new(quiet: bool) -> Display {
        Display { quiet, live: std::io::stderr().is_terminal(), shown: None }
    }

    /// Tells of something that happened.
    pub fn tell(&mut self, text: &str) {
        if self.quiet {
            return;
        }
        let clear = if self.live { "\r\x1b[K" } else { "" };
        eprintln!("{clear}{text}");
    }

    /// Whether it is time to show the state again.
    pub fn is_due(&self, now: Instant) -> bool {
        let every = if self.live { LIVE_EVERY } else { PLAIN_EVERY };
        !self.quiet && self.shown.is_none_or(|shown| now.since(shown) >= every)
    }

    /// Shows the state of a call answered so long ago.
    pub fn show(&mut self, now: Instant, since_answer: Duration, quality: &Quality) {
        self.shown = Some(now);
        let line = line(since_answer, quality);
        if self.live {
            eprint!("\r\x1b[K{line}");
            // A terminal that is gone is no reason to end the call.
            let _ = std::io::stderr().flush();
        } else {
            eprintln!("{line}");
        }
    }
}

/// The state as one line.
pub fn line(since_answer: Duration, quality: &Quality) -> String {
    let seconds = since_answer.as_secs();
    let round_trip = match quality.round_trip {
        Some(time) => format!("{:.1} ms", time.as_secs_f64() * 1000.0),
        None => "-".to_owned(),
    };
    format!(
        "{:02}:{:02} [{}] {:>4.0} dBov  loss {:.1} %  jitter {:.1} ms  delay {} ms  round trip {round_trip}",
        seconds / 60,
        seconds % 60,
        bar(quality.level_dbov),
        quality.level_dbov,
        quality.loss * 100.0,
        quality.jitter.as_secs_f64() * 1000.0,
        quality.delay_ms,
    )
}

/// The level as a bar.
fn bar(level_dbov: f64) -> String {
    let part = (1.0 - level_dbov / BAR_FLOOR_DBOV).clamp(0.0, 1.0);
    let full = (part * BAR_CELLS as f64).round() as usize;
    format!("{}{}", "#".repeat(full), "-".repeat(BAR_CELLS - full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_it_sounds() {
        let quality = Quality {
            level_dbov: -30.0,
            loss: 0.031,
            jitter: Duration::from_micros(1500),
            delay_ms: 12,
            round_trip: Some(Duration::from_millis(7)),
            ..Quality::default()
        };
        assert_eq!(
            line(Duration::from_secs(75), &quality),
            "01:15 [##########----------]  -30 dBov  loss 3.1 %  jitter 1.5 ms  delay 12 ms  round trip 7.0 ms"
        );
        assert!(line(Duration::ZERO, &Quality::default()).ends_with("round trip -"));
    }

    #[test]
    fn the_bar_stays_within_its_cells() {
        for (level, full) in [(-90.0, 0), (-60.0, 0), (-3.0, 19), (0.0, 20), (6.0, 20)] {
            assert_eq!(bar(level).matches('#').count(), full, "{level}");
            assert_eq!(bar(level).len(), BAR_CELLS);
        }
    }
}
