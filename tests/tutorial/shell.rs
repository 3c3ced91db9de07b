//! One bash, fed command by command.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

/// How long one command may take, on a machine that does other things as well.
const LIMIT: Duration = Duration::from_secs(90);
/// What is printed after each command.
const MARK: &str = "==the command is done==";

/// The shell, its folder, and what it has printed so far.
pub struct Shell {
    child: Child,
    input: ChildStdin,
    folder: PathBuf,
    output: File,
    printed: String,
}

impl Shell {
    /// Starts one in a new folder, as who has built Confab in `root`.
    pub fn start(root: &Path) -> Shell {
        let folder = std::env::temp_dir().join(format!("confab-tutorial-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder for temporary files");
        let program = Path::new(env!("CARGO_BIN_EXE_confab")).parent().expect("it is in a folder");
        let path = std::env::var("PATH").unwrap_or_default();
        let log = folder.with_extension("out");
        let output = File::create(&log).expect("a file for what is printed");
        let mut bash = Command::new("bash");
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CONFAB_") {
                bash.env_remove(name);
            }
        }
        let mut child = bash
            .args(["--noprofile", "--norc"])
            .env("CONFAB", root)
            .env("PATH", format!("{}:{path}", program.display()))
            .current_dir(&folder)
            .stdin(Stdio::piped())
            .stdout(output.try_clone().expect("a descriptor"))
            .stderr(output)
            // Whatever it leaves running goes with it.
            .process_group(0)
            .spawn()
            .expect("bash");
        let input = child.stdin.take().expect("it was asked for");
        let output = File::open(&log).expect("it was made");
        Shell { child, input, folder, output, printed: String::new() }
    }

    /// Where it began.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Runs a command; gives what it printed.
    ///
    /// # Panics
    /// When it takes too long.
    pub fn run(&mut self, command: &str) -> String {
        write!(self.input, "{command}\necho '{MARK}'\n")
            .and_then(|()| self.input.flush())
            .expect("bash runs");
        let start = Instant::now();
        loop {
            self.output.read_to_string(&mut self.printed).expect("text");
            if let Some((printed, rest)) = self.printed.split_once(&format!("{MARK}\n")) {
                let (printed, rest) = (printed.to_owned(), rest.to_owned());
                self.printed = rest;
                return if printed.is_empty() || printed.ends_with('\n') { printed } else { printed + "\n" };
            }
            assert!(
                start.elapsed() < LIMIT,
                "$ {command}\ntakes too long: {}\n{}",
                self.printed,
                self.logs()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What the programs in the background have written.
    pub fn logs(&self) -> String {
        let files = fs::read_dir(&self.folder).into_iter().flatten().flatten().map(|file| file.path());
        let logs = files.filter(|path| path.extension().is_some_and(|kind| kind == "txt"));
        let told = logs.map(|path| {
            format!("--- {}:\n{}", path.display(), fs::read_to_string(&path).unwrap_or_default())
        });
        told.collect()
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let group = i32::try_from(self.child.id()).expect("a process id");
        // SAFETY: no memory is involved; the group is our child's, which is not waited for yet.
        unsafe { libc::kill(-group, libc::SIGKILL) };
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
        let _ = fs::remove_file(self.folder.with_extension("out"));
    }
}
