//! Clients that others wrote against the REST API of a real server: VoIPBin's own MCP server, as it
//! comes from PyPI, and Schemathesis, which makes requests from our OpenAPI document. `make deps-test`
//! installs both into `target/venv`.
#![allow(clippy::disallowed_methods, reason = "other programs run by the real clock")]

mod conferences;
mod flows;
mod furnish;
#[path = "../real_clients/http.rs"]
mod http;
mod mcp;
#[allow(dead_code, reason = "the tests of SIP clients use the rest")]
#[path = "../real_clients/process.rs"]
mod process;
mod refusals;
mod schemathesis;
mod server;
