//! As much HTTP as a test needs to drive a server.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// How long one request may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Sends a request; gives the status and the body as text, or `None` when nobody answers there.
pub fn request(
    server: SocketAddr,
    method: &str,
    path: &str,
    key: Option<&str>,
    body: Option<&Value>,
) -> Option<(u16, String)> {
    let (status, body) = exchange(server, method, path, key, body)?;
    Some((status, String::from_utf8(body).ok()?))
}

/// Sends a request; gives the status and the body, or `None` when nobody answers there.
pub fn exchange(
    server: SocketAddr,
    method: &str,
    path: &str,
    key: Option<&str>,
    body: Option<&Value>,
) -> Option<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect_timeout(&server, LIMIT).ok()?;
    stream.set_read_timeout(Some(LIMIT)).ok()?;
    let body = body.map(Value::to_string).unwrap_or_default();
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n");
    if let Some(key) = key {
        head.push_str(&format!("Authorization: Bearer {key}\r\n"));
    }
    if !body.is_empty() {
        head.push_str(&format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()));
    }
    stream.write_all(format!("{head}\r\n{body}").as_bytes()).ok()?;
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).ok()?;
    let end = reply.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    let body = reply.split_off(end + 4);
    let head = String::from_utf8(reply).ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    assert!(!head.to_ascii_lowercase().contains("transfer-encoding"), "a chunked reply: {head}");
    Some((status, body))
}
