//! `confab load`: thousands of phones in one thread, and what they measure.

mod call;
mod engine;
mod heard;
mod media;
mod meter;
mod sequence;
mod signalling;
mod wires;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use super::options::LoadOptions;
use super::report::Report;
use super::target::{Target, TargetError};

/// The exit code of a run in which an expectation failed.
const EXIT_UNMET: u8 = 1;
/// The exit code of a run that could not be made.
const EXIT_IMPOSSIBLE: u8 = 3;

/// Why a run could not be made.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A URI cannot be dialled.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The file of URIs cannot be read.
    #[error("cannot read the rooms from {path}: {source}")]
    Uris {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// There is no room to dial.
    #[error("there is no room to dial: name a URI, or a file of them by --uris")]
    NoRooms,
    /// The rooms are reached partly by IPv4 and partly by IPv6.
    #[error("the rooms must all be reached by IPv4 or all by IPv6: `{0}` differs from the first")]
    MixedFamilies(String),
    /// Sockets or ports could not be had.
    #[error("cannot open sockets: {0} (each call needs one; see `ulimit -n` and --rtp-ports)")]
    Sockets(#[source] std::io::Error),
    /// The process to measure cannot be read.
    #[error("cannot read process {pid}: {source}")]
    Process {
        /// The process.
        pid: u32,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Makes the run, prints the report, and judges it by the expectations.
pub fn load(options: &LoadOptions) -> ExitCode {
    super::interrupt::watch();
    let report = match measure(options) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("confab load: {error}");
            return ExitCode::from(EXIT_IMPOSSIBLE);
        }
    };
    let json = serde_json::to_value(&report).expect("a report holds only numbers, texts and maps by text");
    if options.json {
        println!("{json}");
    } else {
        println!("{report}");
    }
    let failures: Vec<String> =
        options.expect.iter().filter_map(|expectation| expectation.failure(&json)).collect();
    failures.iter().for_each(|failure| eprintln!("confab load: {failure}"));
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_UNMET) }
}

/// Makes the run and gives its figures. Takes as long as the options say; inside [`load`], ctrl-C ends
/// it early.
///
/// # Errors
/// Before the first call, when the run cannot be made as asked.
pub fn measure(options: &LoadOptions) -> Result<Report, LoadError> {
    super::process::raise_file_limit();
    let targets = targets(options)?;
    engine::Engine::open(options, targets)?.run()
}

/// The rooms to dial.
fn targets(options: &LoadOptions) -> Result<Vec<Target>, LoadError> {
    let mut uris = options.uri.clone();
    if let Some(path) = &options.uris {
        let text =
            fs::read_to_string(path).map_err(|source| LoadError::Uris { path: path.clone(), source })?;
        uris.extend(
            text.lines()
                .map(str::trim)
                .filter(|line| !line.is_empty() && !line.starts_with('#'))
                .map(str::to_owned),
        );
    }
    uris.truncate(options.rooms.map_or(usize::MAX, |rooms| rooms as usize));
    let resolve = |uri: &String| Target::resolve(uri, options.proxy.as_deref());
    let targets = uris.iter().map(resolve).collect::<Result<Vec<_>, _>>()?;
    let first = targets.first().ok_or(LoadError::NoRooms)?;
    let other = targets.iter().find(|target| target.address.is_ipv4() != first.address.is_ipv4());
    match other {
        Some(other) => Err(LoadError::MixedFamilies(other.uri.clone())),
        None => Ok(targets),
    }
}

#[cfg(test)]
mod tests;
