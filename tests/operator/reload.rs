//! SIGHUP: a real server reads its file anew, and does what it says from then on.

#![allow(clippy::disallowed_methods, reason = "another program runs by the real clock")]

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{ACCESS_KEY, ADMIN_KEY, LIMIT, confab, http, receiver};

/// A server with a configuration file, its log in a file of its folder.
struct Reloaded {
    http: SocketAddr,
    child: Child,
    folder: PathBuf,
}

impl Reloaded {
    /// One of this file's text; further flags.
    fn start(name: &str, text: &str) -> Reloaded {
        let folder = std::env::temp_dir().join(format!("confab-reload-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder for temporary files");
        fs::write(folder.join("confab.toml"), text).expect("the folder is ours");
        let child = confab()
            .args(["serve", "--sip", "127.0.0.1:0", "--http", "127.0.0.1:0", "--media-threads", "1"])
            .arg("--config")
            .arg(folder.join("confab.toml"))
            .arg("--data")
            .arg(folder.join("data"))
            .env("CONFAB_ADMIN_KEY", ADMIN_KEY)
            .env("CONFAB_MAX_MEMBERS", "7")
            .stdout(File::create(folder.join("out")).expect("the folder is ours"))
            .stderr(File::create(folder.join("log")).expect("the folder is ours"))
            .spawn()
            .expect("a server");
        let mut server = Reloaded { http: SocketAddr::from(([127, 0, 0, 1], 0)), child, folder };
        server.http = server.wait("it to say where it is", |server| {
            let out = fs::read_to_string(server.folder.join("out")).ok()?;
            out.lines().find_map(|line| line.split_once("http://")?.1.split(' ').next()?.parse().ok())
        });
        server
    }

    fn wait<T>(&mut self, what: &str, mut ready: impl FnMut(&Reloaded) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(value) = ready(self) {
                return value;
            }
            let ended = self.child.try_wait().expect("our child");
            assert!(ended.is_none() && start.elapsed() < LIMIT, "{what}: {ended:?}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn ask(&self, method: &str, path: &str, key: Option<&str>, body: Option<&Value>) -> (u16, String) {
        http::request(self.http, method, path, key, body).expect("it answers")
    }

    fn create(&self) -> (u16, String) {
        self.ask("POST", "/v1.0/conferences", Some(ACCESS_KEY), Some(&json!({"name": "one"})))
    }

    /// How often it was reloaded, with this result.
    fn reloads(&self, result: &str) -> u32 {
        let (status, text) = self.ask("GET", "/metrics", Some(ADMIN_KEY), None);
        assert_eq!(status, 200, "{text}");
        let name = format!("confab_config_reloads_total{{result=\"{result}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).expect("the metric is there")
    }

    /// Gives it another file and waits until it has read it.
    fn reload(&mut self, text: &str, result: &str) {
        let before = self.reloads(result);
        fs::write(self.folder.join("confab.toml"), text).expect("the folder is ours");
        let pid = i32::try_from(self.child.id()).expect("a process id");
        // SAFETY: no memory is involved; the process is our child and not waited for yet, so the id
        // is still its own.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGHUP) }, 0);
        self.wait("the file to be read anew", |server| (server.reloads(result) > before).then_some(()));
    }
}

impl Drop for Reloaded {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn sighup_changes_what_it_can_says_what_it_cannot_and_a_fault_changes_nothing() {
    let mut server = Reloaded::start("limits", "[conference]\nmax_conferences = 1\n");
    assert_eq!(server.create().0, 200);
    let (status, text) = server.create();
    assert_eq!(status, 429, "the first limit: {text}");

    server.reload(
        "[conference]\nmax_conferences = 2\nmax_members = 9\n[sip]\nmax_calls = 20\n[log]\nlevel = \"debug\"\n",
        "ok",
    );
    assert_eq!(server.create().0, 200, "the second limit");
    assert_eq!(server.create().0, 429);
    let log = server.log();
    assert!(log.contains("conference.max_conferences: 1 \u{2192} 2"), "{log}");
    assert!(log.contains("sip.max_calls: 10000 \u{2192} 20: this needs a restart"), "{log}");
    assert!(log.contains("log.level: info \u{2192} debug"), "{log}");
    assert!(!log.contains("max_members"), "the environment beats the file as before: {log}");

    server.reload("[conference]\nmax_conferences = 3\nring = \"xx\"\n", "failed");
    assert_eq!(server.create().0, 429, "nothing has changed");
    let log = server.log();
    assert!(log.contains("confab.toml: line 3: conference.ring: must be one of"), "{log}");
    assert!(log.contains("nothing changes"), "{log}");
    server
        .reload("[tls]\nextra_ca_file = \"/nowhere/ca.pem\"\n[conference]\nmax_conferences = 3\n", "failed");
    assert_eq!(server.create().0, 429, "nothing has changed");
    assert!(server.log().contains("tls.extra_ca_file: /nowhere/ca.pem: "), "{}", server.log());

    // The log's level, both ways: at error nothing is told of an ordinary request.
    server.reload("[log]\nlevel = \"error\"\n", "ok");
    let told = server.log().lines().count();
    server.ask("GET", "/v1.0/conferences", Some(ACCESS_KEY), None);
    assert_eq!(server.create().0, 200, "the default limit");
    server.reload("[log]\nlevel = \"info\"\n", "ok");
    let log = server.log();
    let new: Vec<&str> = log.lines().skip(told).collect();
    assert!(new.iter().all(|line| !line.contains("/v1.0/conferences")), "{new:#?}");
    assert!(new.iter().any(|line| line.contains("log.level: error \u{2192} info")), "{new:#?}");
}

#[test]
fn sighup_changes_rates_and_whom_webhooks_may_tell() {
    let mut server = Reloaded::start("webhook", "");
    let (uri, told) = receiver();
    let (_, customers) = server.ask("GET", "/v1.0/customers", Some(ADMIN_KEY), None);
    let customers: Value = serde_json::from_str(&customers).expect("JSON");
    let id = customers["result"][0]["id"].as_str().expect("an id").to_owned();
    let path = format!("/v1.0/customers/{id}");
    let (status, text) = server.ask("PUT", &path, Some(ADMIN_KEY), Some(&json!({"webhook_uri": uri})));
    assert_eq!(status, 200, "{text}");
    assert_eq!(server.create().0, 200);
    server.wait("a delivery to be refused", |server| {
        let (_, text) = server.ask("GET", "/metrics", Some(ADMIN_KEY), None);
        let failed = "confab_webhook_deliveries_total{result=\"failed\"} ";
        let count: u32 = text.lines().find_map(|line| line.strip_prefix(failed)?.parse().ok())?;
        (count > 0).then_some(())
    });
    assert!(told.try_recv().is_err(), "a private address is not told");

    server.reload("[webhook]\nallow_private = true\n", "ok");
    let event = told.recv_timeout(LIMIT).expect("it is told now");
    assert_eq!(event["type"], "conference_created");

    for _ in 0..20 {
        assert_eq!(server.ask("GET", "/ping", None, None).0, 200);
    }
    server.reload("[http]\nrequests_per_s_per_source = 1\nmetrics_open = false\n", "ok");
    let answers: Vec<u16> = (0..5).map(|_| server.ask("GET", "/ping", None, None).0).collect();
    assert!(answers.contains(&429), "one a second, two at once: {answers:?}");
    assert_eq!(server.ask("GET", "/metrics", Some(ADMIN_KEY), None).0, 200);
    assert!(matches!(server.ask("GET", "/metrics", None, None).0, 401 | 429), "it needs a key now");
}
