//! What is printed for the person who started the program.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

/// The facts that are told once the server is ready.
#[derive(Clone, Debug)]
pub(super) struct Ready {
    /// SIP, over UDP and TCP.
    pub sip: SocketAddr,
    /// Hosts of URIs that are ours.
    pub domains: Vec<String>,
    /// HTTP.
    pub http: SocketAddr,
    /// UDP ports for audio.
    pub rtp_ports: RangeInclusive<u16>,
    /// Media threads.
    pub media_threads: usize,
    /// What moves their packets.
    pub backend: &'static str,
    /// Why it is not what was preferred.
    pub fallback: Option<String>,
    /// The interface of the express path.
    pub express: Option<String>,
    /// The media threads that take packets by it.
    pub express_threads: usize,
    /// The database, where it is not in that folder.
    pub database: Option<String>,
    /// The folder of recordings and of the embedded database.
    pub data: PathBuf,
    /// Conferences found there that go on.
    pub restored: usize,
    /// The access key made just now.
    pub access_key: Option<String>,
    /// The admin key made just now.
    pub admin_key: Option<String>,
}

impl Ready {
    /// The block of text.
    pub fn text(&self) -> String {
        let mut text = format!("confab {} is ready\n", env!("CARGO_PKG_VERSION"));
        let mut line = |name: &str, value: String| {
            writeln!(text, "  {name:<12}{value}").expect("writing to a String cannot fail");
        };
        line("SIP", format!("{} (UDP and TCP), for {}", self.sip, self.domains.join(", ")));
        line("HTTP", format!("http://{} (try /docs)", self.http));
        line("RTP", format!("{}-{} (UDP)", self.rtp_ports.start(), self.rtp_ports.end()));
        let threads = if self.media_threads == 1 { "thread" } else { "threads" };
        let why = self.fallback.as_ref().map(|why| format!(" (not io_uring: {why})")).unwrap_or_default();
        let express = match (&self.express, self.express_threads) {
            (None, _) => String::new(),
            (Some(name), n) if n == self.media_threads => format!(", express path on {name}"),
            (Some(name), n) => {
                format!(", {n} of them with an express path on {name}, which has no more queues")
            }
        };
        line("I/O", format!("{}{why}, {} media {threads}{express}", self.backend, self.media_threads));
        let restored = match self.restored {
            0 => String::new(),
            1 => " (1 conference goes on)".to_owned(),
            n => format!(" ({n} conferences go on)"),
        };
        line("data", format!("{}{restored}", self.data.display()));
        if let Some(database) = &self.database {
            line("database", database.clone());
        }
        if let Some(key) = &self.access_key {
            line("access key", format!("{key}  (shown only this once)"));
        }
        if let Some(key) = &self.admin_key {
            line("admin key", format!("{key}  (shown only this once)"));
        }
        text
    }
}

/// Prints to standard output. Nobody reading it is no reason to stop serving.
pub(super) fn print(text: &str) {
    let mut output = std::io::stdout().lock();
    let _ = output.write_all(text.as_bytes());
    let _ = output.flush();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_tells_all_and_keys_only_when_made() {
        let mut ready = Ready {
            sip: "0.0.0.0:5060".parse().expect("an address"),
            domains: vec!["sip.voipbin.net".to_owned()],
            http: "127.0.0.1:8080".parse().expect("an address"),
            rtp_ports: 20_000..=40_000,
            media_threads: 2,
            backend: "epoll",
            fallback: Some("Operation not permitted".to_owned()),
            express: None,
            express_threads: 0,
            database: None,
            data: PathBuf::from("/var/lib/confab"),
            restored: 3,
            access_key: None,
            admin_key: None,
        };
        let text = ready.text();
        assert_eq!(
            text,
            format!(
                "confab {} is ready\n\
                \x20 SIP         0.0.0.0:5060 (UDP and TCP), for sip.voipbin.net\n\
                \x20 HTTP        http://127.0.0.1:8080 (try /docs)\n\
                \x20 RTP         20000-40000 (UDP)\n\
                \x20 I/O         epoll (not io_uring: Operation not permitted), 2 media threads\n\
                \x20 data        /var/lib/confab (3 conferences go on)\n",
                env!("CARGO_PKG_VERSION")
            )
        );
        ready.database = Some("postgres://me@db/confab".to_owned());
        assert!(ready.text().ends_with("  database    postgres://me@db/confab\n"));
        ready.access_key = Some("vb_x".to_owned());
        assert!(ready.text().ends_with("  access key  vb_x  (shown only this once)\n"));
    }
}
