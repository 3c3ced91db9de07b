//! A private PostgreSQL server, and the way to run the tests of a binary on it.
//!
//! A test that opens a store asks [`address_for`] where. That is the embedded database, unless the
//! process is one that [`run_these_tests_again`] started.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::{Connection as _, Executor as _};

/// Where a process that tests on PostgreSQL finds the server.
const SERVER: &str = "CONFAB_TEST_POSTGRES";
/// The name of every test that calls [`run_these_tests_again`].
const AGAIN: &str = "the_same_tests_pass_on_postgres";
/// The module of tests that have a server of their own anyway.
const OWN: &str = "outage::";
/// How much of a failed run is shown, in bytes.
const TAIL_BYTES: usize = 20_000;
/// `nobody`, who runs the server where we are root: PostgreSQL refuses to be root's.
const NOBODY: u32 = 65534;

/// Starts a server in `$1` with the programs of `$2` and the options `$3`, tells its process id, and
/// ends it when its input ends, as it does when the test is gone, however it went. Afterwards the folder
/// is gone too, unless `keep` was said. A server that was killed may leave children for a moment: it is
/// started until they are gone.
const KEEPER: &str = r#"
cd "$1" || exit 1
if [ ! -d data ]; then
    "$2/initdb" -D data -U confab -A trust -E UTF8 --locale=C --no-sync >initdb.log 2>&1 || { cat initdb.log >&2; exit 1; }
fi
tries=0
until "$2/pg_ctl" -D data -l server.log -w -t 60 -o "$3" start >pg_ctl.log 2>&1; do
    tries=$((tries + 1))
    if [ "$tries" -ge 100 ]; then cat pg_ctl.log server.log >&2; exit 1; fi
    sleep 0.1
done
head -n 1 data/postmaster.pid
read -r word
"$2/pg_ctl" -D data -m immediate -w stop >>pg_ctl.log 2>&1
[ "$word" = keep ] || { cd / && rm -rf "$1"; }
"#;

/// Makes an authority and a certificate for `localhost` that it has signed.
const CERTIFICATES: &str = r#"
cd "$1" || exit 1
key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1"; }
key ca.key && key server.key &&
openssl req -x509 -new -key ca.key -days 30 -subj "/CN=a test's authority" -addext keyUsage=critical,keyCertSign -out ca.pem &&
openssl req -new -key server.key -subj "/CN=localhost" -out server.csr &&
printf 'subjectAltName=DNS:localhost\n' >server.ext &&
openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile server.ext -out server.pem
"#;

/// A server on a socket in a folder of its own.
pub struct Server {
    folder: PathBuf,
    options: String,
    keeper: Option<Child>,
    pid: i32,
}

impl Server {
    /// Starts one that does not wait for the disk.
    pub fn start() -> Server {
        Self::with("-c fsync=off -c full_page_writes=off")
    }

    /// Starts one that speaks TLS on 127.0.0.1 too. Gives it, and its address there without parameters.
    pub fn with_tls() -> (Server, String) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let mut server = Self::made();
        let folder = server.folder.display();
        let made =
            as_nobody(CERTIFICATES).arg(&server.folder).stderr(Stdio::null()).status().expect("a shell");
        assert!(made.success(), "openssl makes certificates");
        server.options = format!(
            "-c ssl=on -c ssl_cert_file={folder}/server.pem -c ssl_key_file={folder}/server.key -p {port} \
             -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
        );
        drop(listener);
        server.start_again();
        (server, format!("postgres://confab@localhost:{port}/postgres"))
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Starts one with these options beside our own.
    pub fn with(options: &str) -> Server {
        let mut server = Self::made();
        server.options = format!(
            "-c listen_addresses= -c unix_socket_directories={} -c max_connections=200 -c shared_buffers=32MB {options}",
            server.folder.display()
        );
        server.start_again();
        server
    }

    /// One that was not started yet.
    fn made() -> Server {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("confab-pg-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for temporary files");
        if is_root() {
            std::os::unix::fs::chown(&folder, Some(NOBODY), Some(NOBODY)).expect("we are root");
        }
        Server { folder, options: String::new(), keeper: None, pid: 0 }
    }

    /// The address of a database on it, which has the name of its user.
    pub fn address(&self) -> String {
        self.address_at(&self.folder)
    }

    /// The same through a socket in another folder.
    pub fn address_at(&self, folder: &Path) -> String {
        format!("postgres://confab@localhost/postgres?host={}", folder.display())
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.join(".s.PGSQL.5432")
    }

    /// Starts it, as it was when it was stopped or killed.
    pub fn start_again(&mut self) {
        let mut command = as_nobody(KEEPER);
        command.arg(&self.folder).arg(programs()).arg(&self.options);
        let mut keeper = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell");
        let mut line = String::new();
        let output = keeper.stdout.take().expect("its output");
        BufReader::new(output).read_line(&mut line).expect("it answers");
        self.pid = line.trim().parse().expect("PostgreSQL started; else the reason is above");
        self.keeper = Some(keeper);
    }

    /// Kills it (SIGKILL); its children go by themselves.
    pub fn kill(&mut self) {
        // SAFETY: no memory is involved; the process is one that was started for us and, ending only
        // by this call or by its keeper, which we have, is still there.
        unsafe { libc::kill(self.pid, libc::SIGKILL) };
        self.let_go("keep\n");
    }

    /// Freezes or thaws it: connections are taken by the kernel and nobody answers.
    pub fn freeze(&self, frozen: bool) {
        let signal = if frozen { libc::SIGSTOP } else { libc::SIGCONT };
        let children = format!("/proc/{0}/task/{0}/children", self.pid);
        let children = std::fs::read_to_string(children).unwrap_or_default();
        for pid in children.split_whitespace().filter_map(|pid| pid.parse().ok()).chain([self.pid]) {
            // SAFETY: no memory is involved; the processes are the server and its children, which it
            // reaps only while it is not frozen itself.
            unsafe { libc::kill(pid, signal) };
        }
    }

    fn let_go(&mut self, word: &str) {
        let Some(mut keeper) = self.keeper.take() else { return };
        if let Some(mut input) = keeper.stdin.take() {
            // Refused when it has ended already.
            let _ = input.write_all(word.as_bytes());
        }
        let _ = keeper.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.let_go("");
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn is_root() -> bool {
    // SAFETY: it cannot fail and touches no memory.
    unsafe { libc::geteuid() == 0 }
}

/// A shell that runs this, as nobody where we are root. Further arguments are the script's.
fn as_nobody(script: &str) -> Command {
    let mut command = Command::new(if is_root() { "setpriv" } else { "sh" });
    if is_root() {
        let nobody = NOBODY.to_string();
        command.args(["--reuid", &nobody, "--regid", &nobody, "--clear-groups", "sh"]);
    }
    command.args(["-c", script, "sh"]);
    command
}

/// The folder of the newest server's programs.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, folder)| folder.join("initdb").exists())
        .collect();
    folders.sort();
    let newest = folders.pop().map(|(_, folder)| folder);
    newest.expect("PostgreSQL is not there; `make test` installs it (Debian package postgresql)")
}

/// The address of a schema of its own for a store in this folder, made when missing; `None` for the
/// embedded database.
pub async fn address_for(folder: &Path) -> Option<String> {
    let server = std::env::var(SERVER).ok()?;
    let name = folder.file_name().expect("a folder has a name").to_string_lossy().replace(['-', '.'], "_");
    let mut connection = sqlx::PgConnection::connect(&server).await.expect("the server runs");
    let make = sqlx::AssertSqlSafe(format!("CREATE SCHEMA IF NOT EXISTS {name}"));
    connection.execute(make).await.expect("a schema");
    connection.close().await.expect("it closes");
    Some(format!("{server}&options=-csearch_path%3D{name}"))
}

/// Whether this process tests on PostgreSQL.
pub fn is_chosen() -> bool {
    std::env::var_os(SERVER).is_some()
}

/// Runs the tests of this binary, those whose name has `filter` in it, on a server of their own.
///
/// # Panics
/// When one fails, with what it said.
pub fn run_these_tests_again(filter: &str) {
    if is_chosen() {
        return;
    }
    let server = Server::start();
    let output = Command::new(std::env::current_exe().expect("this test"))
        .args([filter, "--skip", AGAIN, "--skip", OWN])
        .env(SERVER, server.address())
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let from = (said.len().saturating_sub(TAIL_BYTES)..said.len()).find(|at| said.is_char_boundary(*at));
    let said = &said[from.unwrap_or(0)..];
    assert!(output.status.success(), "on PostgreSQL:\n{said}\n{}", String::from_utf8_lossy(&output.stderr));
    println!("on PostgreSQL: {}", said.lines().rev().find(|line| !line.is_empty()).unwrap_or_default());
}
