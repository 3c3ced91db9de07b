//! A client of the Model Context Protocol: it starts `voipbin-mcp` as any such client would and speaks
//! JSON-RPC with it, a message a line, over its input and output.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

use crate::process::tail;
use crate::server::{ACCESS_KEY, Server, python_program};

/// The protocol's version that we speak.
const PROTOCOL: &str = "2025-06-18";
/// How long an answer may take; the first waits for Python to load.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// A running `voipbin-mcp`, pointed at a server.
pub struct Mcp {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    log: std::path::PathBuf,
    next_id: u64,
    /// What it said of itself at the beginning.
    pub itself: Value,
}

impl Mcp {
    /// Starts one with the first customer's key.
    pub fn start(server: &Server) -> Mcp {
        Self::start_with(server, &[("VOIPBIN_API_KEY", ACCESS_KEY)])
    }

    /// Starts one with these variables of the package's configuration.
    pub fn start_with(server: &Server, env: &[(&str, &str)]) -> Mcp {
        let log = server.folder.path().join("voipbin-mcp.log");
        let errors = fs::File::options().append(true).create(true).open(&log).expect("the folder is ours");
        let mut command = Command::new(python_program("voipbin-mcp"));
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("VOIPBIN_") || name.to_ascii_lowercase().ends_with("_proxy") {
                command.env_remove(name.as_ref());
            }
        }
        command.env("VOIPBIN_API_BASE_URL", format!("{}/v1.0", server.url())).envs(env.iter().copied());
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .expect("voipbin-mcp starts");
        let input = child.stdin.take().expect("its input");
        let output = BufReader::new(child.stdout.take().expect("its output"));
        let (tell, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    break;
                }
            }
        });
        let mut mcp = Mcp { child, input, lines, log, next_id: 1, itself: Value::Null };
        let about = json!({"name": "confab-tests", "version": "1"});
        mcp.itself = mcp.ask(
            "initialize",
            &json!({"protocolVersion": PROTOCOL, "capabilities": {}, "clientInfo": about}),
        );
        mcp.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        mcp
    }

    /// A request and its result.
    ///
    /// # Panics
    /// When there is none in time.
    pub fn ask(&mut self, method: &str, params: &Value) -> Value {
        let id = self.next_id;
        self.next_id += 1;
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        loop {
            let line = self.lines.recv_timeout(ANSWER_LIMIT).unwrap_or_else(|error| {
                panic!("voipbin-mcp does not answer {method} ({error}); it logged:\n{}", tail(&self.log))
            });
            let message: Value =
                serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
            if message["id"] == id {
                assert!(message["error"].is_null(), "{method} {params}: {message}");
                return message["result"].clone();
            }
        }
    }

    /// Calls a tool that goes well; what it gives is the API's answer.
    pub fn call(&mut self, tool: &str, arguments: &Value) -> Value {
        let (text, failed) = self.call_any(tool, arguments);
        assert!(!failed, "{tool} {arguments} failed: {text}");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{tool} {arguments}: {error}: {text}"))
    }

    /// Calls a tool that fails; what it says to its user.
    pub fn fails(&mut self, tool: &str, arguments: &Value) -> String {
        let (text, failed) = self.call_any(tool, arguments);
        assert!(failed, "{tool} {arguments} went well: {text}");
        text
    }

    fn call_any(&mut self, tool: &str, arguments: &Value) -> (String, bool) {
        let result = self.ask("tools/call", &json!({"name": tool, "arguments": arguments}));
        let text = result["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no text in {result}"));
        (text.to_owned(), result["isError"] == true)
    }

    fn send(&mut self, message: &Value) {
        let sent = writeln!(self.input, "{message}").and_then(|()| self.input.flush());
        if let Err(error) = sent {
            panic!("voipbin-mcp is gone ({error}); it logged:\n{}", tail(&self.log));
        }
    }
}

impl Drop for Mcp {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The text of a field.
pub fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("no text {field} in {value}"))
}

/// The ids of a page, in their order.
pub fn ids(page: &Value) -> Vec<String> {
    let rows = page["result"].as_array().unwrap_or_else(|| panic!("no list in {page}"));
    rows.iter().map(|row| text(row, "id").to_owned()).collect()
}
