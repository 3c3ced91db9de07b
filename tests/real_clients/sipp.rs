//! SIPp with the scenarios of `fixtures/sipp`.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::process::{Folder, Program, command, free_ports, tail, wait_for};
use crate::server::DOMAIN;
use crate::sound;

/// How long one run may take, and a bit more before it is killed.
const LIMIT: Duration = Duration::from_secs(30);
const KILL_AFTER: Duration = Duration::from_secs(35);
/// The tone a SIPp plays.
pub const TONE_HZ: u32 = 500;

/// The transport SIP goes over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Over {
    Udp,
    Tcp,
}

/// How to run a scenario.
pub struct Sipp {
    scenario: &'static str,
    text: String,
    server: SocketAddr,
    over: Over,
    options: Vec<String>,
}

/// The folder of the scenarios.
fn fixture(scenario: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/sipp").join(format!("{scenario}.xml"))
}

impl Sipp {
    /// One call of this scenario to a user at the server.
    pub fn new(scenario: &'static str, server: SocketAddr, user: &str) -> Sipp {
        let path = fixture(scenario);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let options = ["-s", user].map(str::to_owned).to_vec();
        Sipp { scenario, text, server, over: Over::Udp, options }.key("domain", DOMAIN)
    }

    /// Over this transport.
    pub fn over(mut self, over: Over) -> Sipp {
        self.over = over;
        self
    }

    /// With a value for a `[name]` of the scenario.
    pub fn key(self, name: &str, value: impl ToString) -> Sipp {
        self.option(["-key", name, &value.to_string()])
    }

    /// With a value for an `@NAME@` of the scenario.
    pub fn fill(mut self, name: &str, value: &str) -> Sipp {
        let place = format!("@{name}@");
        assert!(self.text.contains(&place), "no {place} in {}.xml", self.scenario);
        self.text = self.text.replace(&place, value);
        self
    }

    /// With more options of SIPp.
    pub fn option<'a>(mut self, options: impl IntoIterator<Item = &'a str>) -> Sipp {
        self.options.extend(options.into_iter().map(str::to_owned));
        self
    }

    /// This many calls, so many begun per second.
    pub fn calls(self, calls: u32, per_second: u32) -> Sipp {
        self.option(["-m", &calls.to_string(), "-l", &calls.to_string(), "-r", &per_second.to_string()])
    }

    /// Holds the call for this long, where the scenario leaves it open.
    pub fn holding(self, time: Duration) -> Sipp {
        self.option(["-d", &time.as_millis().to_string()])
    }

    /// Starts it.
    pub fn start(self) -> Running {
        let folder = Folder::new("sipp");
        let scenario = folder.path().join("scenario.xml");
        fs::write(&scenario, &self.text).expect("the folder is ours");
        sound::write_ulaw(&folder.path().join("tone.ul"), TONE_HZ);
        let ports = free_ports(6);
        let local = self.server.ip().to_string();
        let mut sipp = command("sipp");
        sipp.arg("-sf").arg(scenario);
        sipp.args(["-i", &local, "-mi", &local]);
        for (option, port) in [("-p", ports), ("-cp", ports + 1), ("-mp", ports + 2)] {
            sipp.args([option, &port.to_string()]);
        }
        sipp.args(["-t", if self.over == Over::Tcp { "t1" } else { "u1" }]);
        sipp.args(["-m", "1", "-nostdin", "-timeout_error", "-timeout", &LIMIT.as_secs().to_string()]);
        sipp.args(["-trace_err", "-error_file", "errors.log", "-trace_msg", "-message_file", "messages.log"]);
        sipp.args(["-trace_screen", "-screen_file", "screen.log"]);
        sipp.args(&self.options).arg(self.server.to_string());
        let program = Program::start("sipp", "sip-tester", folder.path(), &mut sipp);
        Running { scenario: self.scenario, program, folder }
    }

    /// Runs it to its end, which must be a good one.
    pub fn run(self) {
        self.start().finish();
    }
}

/// A SIPp that runs.
pub struct Running {
    scenario: &'static str,
    program: Program,
    folder: Folder,
}

impl Running {
    /// Waits for its end.
    ///
    /// # Panics
    /// When a call failed or it took too long.
    pub fn finish(mut self) {
        let status = self.program.wait(KILL_AFTER);
        let log = |name| tail(&self.folder.path().join(name));
        assert!(
            status.success(),
            "{}.xml ended with {status}\n--- errors\n{}\n--- messages\n{}",
            self.scenario,
            log("errors.log"),
            log("messages.log")
        );
    }

    /// The number SIPp shows before `label` on its screen now.
    pub fn count(&self, label: &str) -> usize {
        self.program.signal(libc::SIGUSR2);
        let screen = self.folder.path().join("screen.log");
        let line = wait_for(format!("SIPp's screen with {label:?}"), Duration::from_secs(5), || {
            let text = fs::read_to_string(&screen).ok()?;
            text.lines().rev().find(|line| line.contains(label)).map(str::to_owned)
        });
        let before = line.split(label).next().unwrap_or_default();
        before.split_whitespace().last().and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{line}"))
    }
}
