//! Calls of the REST API, and what their errors mean to a person.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Collected};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, IF_RANGE, RANGE};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::Value;

use super::options::Connection;
use crate::app::failure::Failure;
use crate::net::http::{HttpClient, Settings};
use crate::time::Duration;

/// How long a call may take: a little longer than the server itself gives it.
const TIMEOUT: Duration = Duration::from_secs(20);
/// The longest answer that is read, in bytes.
const ANSWER_MAX: usize = 16 << 20;

/// The server and the key.
#[derive(Debug)]
pub(super) struct Client {
    /// Scheme, host and port.
    pub base: String,
    bearer: HeaderValue,
    http: HttpClient,
}

impl Client {
    pub fn new(connection: &Connection) -> Result<Client, Failure> {
        let key = std::env::var("CONFAB_ACCESSKEY").unwrap_or_default();
        let bearer = HeaderValue::from_str(&format!("Bearer {key}")).ok().filter(|_| !key.is_empty());
        let bearer = bearer.ok_or_else(|| {
            let next =
                "set CONFAB_ACCESSKEY=vb_…: `confab serve` prints the first key once, on its first start";
            Failure::advice("an access key is needed".to_owned(), vec![next.to_owned()])
        })?;
        let settings =
            Settings { timeout: TIMEOUT, allow_private: true, answer_max: ANSWER_MAX, redirects_max: 0 };
        let http = HttpClient::new(settings)
            .map_err(|error| Failure::other("the TLS library cannot be used", &error))?;
        Ok(Client { base: base(&connection.http), bearer, http })
    }

    /// The `Authorization` header.
    pub fn authorization(&self) -> HeaderValue {
        self.bearer.clone()
    }

    /// Makes a call of `/v1.0` and gives its answer.
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let mut request = self.request(path)?;
        *request.body_mut() = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
        *request.method_mut() = method;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let answer =
            self.http.send(request).await.map_err(|failure| self.unreachable(&failure.to_string()))?;
        let status = answer.status;
        let body = answer.whole().map_err(|failure| self.unreachable(&failure.to_string()))?;
        if status.is_success() {
            return Ok(serde_json::from_slice(&body).unwrap_or(Value::Null));
        }
        Err(refused(status, &body))
    }

    /// Asks for a file of `/v1.0`, from byte `from` on if it still has the tag `etag`; the body is for the
    /// caller to read. `Err` within: no answer this time.
    pub async fn open(
        &self,
        path: &str,
        part: Option<(u64, &HeaderValue)>,
    ) -> Result<Result<Response<Incoming>, String>, Failure> {
        let mut request = self.request(path)?;
        if let Some((from, etag)) = part {
            let range = HeaderValue::from_str(&format!("bytes={from}-")).map_err(|_| self.wrong_place())?;
            request.headers_mut().insert(RANGE, range);
            request.headers_mut().insert(IF_RANGE, etag.clone());
        }
        match tokio::time::timeout(TIMEOUT, self.http.ask(request)).await {
            Ok(Ok(answer)) if answer.status().is_success() => Ok(Ok(answer)),
            Ok(Ok(answer)) => {
                let status = answer.status();
                let body = answer.into_body().collect().await.map(Collected::to_bytes).unwrap_or_default();
                if status == StatusCode::SERVICE_UNAVAILABLE {
                    return Ok(Err(refused(status, &body).to_string()));
                }
                Err(refused(status, &body))
            }
            Ok(Err(failure)) => Ok(Err(failure.to_string())),
            Err(_) => Ok(Err(format!("no answer within {TIMEOUT:?}"))),
        }
    }

    fn request(&self, path: &str) -> Result<Request<Bytes>, Failure> {
        let mut request = Request::new(Bytes::new());
        *request.uri_mut() = format!("{}/v1.0{path}", self.base).parse().map_err(|_| self.wrong_place())?;
        request.headers_mut().insert(AUTHORIZATION, self.bearer.clone());
        Ok(request)
    }

    /// No server there.
    pub fn unreachable(&self, why: &str) -> Failure {
        let next =
            vec!["start it with `confab serve`, or say where it is with --http or CONFAB_HTTP".to_owned()];
        Failure::advice(format!("no server answers at {}: {why}", self.base), next)
    }

    fn wrong_place(&self) -> Failure {
        let next = vec!["--http takes ADDR:PORT or a URL such as https://confab.example".to_owned()];
        Failure::advice(format!("{:?} is not where a server can be", self.base), next)
    }
}

/// What an error of the API means to a person.
fn refused(status: StatusCode, body: &[u8]) -> Failure {
    let json: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let error = &json["error"];
    let text = |field: &str| error[field].as_str().unwrap_or_default().to_owned();
    let message = match text("message") {
        message if message.is_empty() => format!("the server answered {status}; is it confab?"),
        message => format!("refused: {message}"),
    };
    let id = text("request_id");
    let next =
        if id.is_empty() { Vec::new() } else { vec![format!("the server's log has it as request {id}")] };
    Failure::advice(message, next)
}

/// The base of URLs. What a server listens on is understood too: every address is reached at loopback.
fn base(place: &str) -> String {
    if place.contains("://") {
        return place.trim_end_matches('/').to_owned();
    }
    let reached = match place.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_unspecified() => {
            let loopback = match address.ip() {
                IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
                IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
            };
            SocketAddr::new(loopback, address.port()).to_string()
        }
        _ => place.to_owned(),
    };
    format!("http://{reached}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_an_address_or_a_url() {
        for (place, url) in [
            ("127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("0.0.0.0:80", "http://127.0.0.1:80"),
            ("[::]:80", "http://[::1]:80"),
            ("confab.example:8080", "http://confab.example:8080"),
            ("https://confab.example/", "https://confab.example"),
        ] {
            assert_eq!(base(place), url);
        }
    }
}
