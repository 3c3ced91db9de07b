//! Programs under a limit of time, the folders they work in and the ports they use.

use std::fmt::Display;
use std::fs::{self, File};
use std::net::{Ipv6Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How often something is looked at that is waited for.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// How much of a log a failure shows, in bytes.
const TAIL_BYTES: usize = 6_000;
/// The ports tests use: below what the kernel gives out by itself and below Confab's default range.
const PORTS: std::ops::Range<u32> = 10_000..19_900;

/// Asks `ready` again and again until it gives something.
///
/// # Panics
/// After `limit`, saying `what` was waited for.
pub fn wait_for<T>(what: impl Display, limit: Duration, mut ready: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(start.elapsed() < limit, "waited {limit:?} for {what}");
        std::thread::sleep(LOOK_INTERVAL);
    }
}

/// Lets time pass, for a call to have some length.
pub fn pass(time: Duration) {
    std::thread::sleep(time);
}

/// `count` ports in a row that are free for UDP and TCP, the first one even. No two callers in this
/// process get the same; a process beside this one starts elsewhere.
pub fn free_ports(count: u16) -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let count = u32::from(count.next_multiple_of(2));
    let span = PORTS.end - PORTS.start - 256;
    let origin = (std::process::id() * 514) % span;
    for _ in 0..200 {
        let offset = origin + NEXT.fetch_add(count, Ordering::Relaxed);
        let first = (PORTS.start + (offset % span)) as u16 & !1;
        let free = |port| {
            UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)).is_ok()
                && TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).is_ok()
        };
        if (first..first + count as u16).all(free) {
            return first;
        }
    }
    panic!("no {count} ports in a row are free in {PORTS:?}");
}

/// A folder that is gone with its owner, unless the test fails: then its path is shown.
pub struct Folder(PathBuf);

impl Folder {
    /// A new one.
    pub fn new(name: &str) -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("confab-{name}-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder for temporary files");
        Folder(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("left for you to look at: {}", self.0.display());
        } else {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// A program that runs. It is killed with its owner.
pub struct Program {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts it in `folder`, what it says going to `<name>.log` there. `package` is what installs it.
    ///
    /// # Panics
    /// When there is no such program.
    pub fn start(name: &'static str, package: &str, folder: &Path, command: &mut Command) -> Program {
        let log = folder.join(format!("{name}.log"));
        let output = File::create(&log).expect("the folder is ours");
        let errors = output.try_clone().expect("a descriptor");
        let child =
            command.current_dir(folder).stdout(output).stderr(errors).spawn().unwrap_or_else(|error| {
                panic!("{name} does not start ({error}); `make test` installs it (Debian package {package})")
            });
        Program { name, child, log }
    }

    /// The end of what it has said.
    pub fn said(&self) -> String {
        tail(&self.log)
    }

    /// All it has said.
    pub fn said_in_full(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Whether it has said `text`.
    pub fn has_said(&self, text: &str) -> bool {
        self.said_in_full().contains(text)
    }

    /// Waits until it has said `text`.
    pub fn wait_to_say(&mut self, text: &str, limit: Duration) {
        let start = Instant::now();
        while !self.has_said(text) {
            let ended = self.child.try_wait().expect("our child");
            assert!(
                ended.is_none() && start.elapsed() < limit,
                "{} did not say {text:?} in {limit:?} ({ended:?}); it said:\n{}",
                self.name,
                self.said()
            );
            pass(LOOK_INTERVAL);
        }
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("our child").is_none()
    }

    /// Writes to its input.
    pub fn tell(&mut self, text: &str) {
        use std::io::Write as _;
        let input = self.child.stdin.as_mut().expect("started with an input");
        input.write_all(text.as_bytes()).and_then(|()| input.flush()).expect("it listens");
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.child.id()).expect("a process id");
        // SAFETY: no memory is involved; the process is our child and not waited for yet, so the id
        // is still its own.
        let sent = unsafe { libc::kill(pid, signal) };
        assert_eq!(sent, 0, "{} is gone", self.name);
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// After `limit`.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("our child") {
                return status;
            }
            if start.elapsed() >= limit {
                let said = self.said();
                panic!("{} still runs after {limit:?}; it said:\n{said}", self.name);
            }
            pass(LOOK_INTERVAL);
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.runs() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- {} said:\n{}", self.name, self.said());
        }
    }
}

/// The last lines of a log, without those of an API asked again and again.
pub fn tail(log: &Path) -> String {
    let text = String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().filter(|line| !line.contains("INFO request ")).collect();
    let text = lines.join("\n");
    let from = (text.len().saturating_sub(TAIL_BYTES)..text.len()).find(|at| text.is_char_boundary(*at));
    text[from.unwrap_or(0)..].to_owned()
}

/// A command without input.
pub fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    command
}
