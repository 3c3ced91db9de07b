//! A server of our own, and the programs that drive it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::http;
use crate::process::{Folder, Program, command, wait_for};

/// The access key of the first customer.
pub const ACCESS_KEY: &str = "vb_CompatCompatCompatCompatCompatCo";
/// The admin key.
pub const ADMIN_KEY: &str = "CompatAdminKeyCompatAdminKeyCompat";
/// How long a server may take to start, on a machine that does other things as well.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A program of the Python environment that the Makefile makes.
///
/// # Panics
/// When it is not there, saying what installs it.
pub fn python_program(name: &str) -> PathBuf {
    let environment = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/venv");
    let program = environment.join("bin").join(name);
    assert!(program.exists(), "there is no {name} in target/venv: run `make deps-test`, which installs it");
    program
}

/// A running `confab serve`.
pub struct Server {
    pub http: SocketAddr,
    pub sip: SocketAddr,
    /// Where its log is, and what else a test writes.
    pub folder: Folder,
    _program: Program,
}

impl Server {
    /// Starts one with these further settings, each as `key=value`.
    pub fn start(settings: &[&str]) -> Server {
        let folder = Folder::new("compat");
        let mut serve = command(env!("CARGO_BIN_EXE_confab"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CONFAB_") {
                serve.env_remove(name);
            }
        }
        serve.args(["serve", "--sip", "127.0.0.1:0", "--http", "127.0.0.1:0", "--media-threads", "1"]);
        serve.args(["--log", "warn"]).arg("--data").arg(folder.path().join("data"));
        serve.arg("--set").arg(concat!("transcribe.models=", env!("CARGO_MANIFEST_DIR"), "/models"));
        for setting in settings {
            serve.args(["--set", setting]);
        }
        serve.env("CONFAB_ACCESSKEY", ACCESS_KEY).env("CONFAB_ADMIN_KEY", ADMIN_KEY);
        let program = Program::start("confab", "none: cargo builds it", folder.path(), &mut serve);
        let (sip, http) = wait_for("the server to say where it is", START_LIMIT, || {
            let said = program.said_in_full();
            Some((address(&said, "\n  SIP ")?, address(&said, "http://")?))
        });
        Server { http, sip, folder, _program: program }
    }

    /// Its address as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.http)
    }

    /// What the API answers to the first customer's key, as JSON.
    ///
    /// # Panics
    /// When it is not a 200.
    pub fn own(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        self.asked(ACCESS_KEY, method, path, body)
    }

    /// What the API answers to the admin key, as JSON.
    ///
    /// # Panics
    /// When it is not a 200.
    pub fn admin(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        self.asked(ADMIN_KEY, method, path, body)
    }

    fn asked(&self, key: &str, method: &str, path: &str, body: Option<&Value>) -> Value {
        let reply = http::request(self.http, method, &format!("/v1.0{path}"), Some(key), body);
        let (status, text) = reply.expect("it answers HTTP");
        assert_eq!(status, 200, "{method} {path}: {text}");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{method} {path}: {error}: {text}"))
    }
}

/// The address that was said behind `before`.
fn address(said: &str, before: &str) -> Option<SocketAddr> {
    said.split_once(before)?.1.trim_start().split_once(' ')?.0.parse().ok()
}
