//! HTTP to servers that others chose: bounded in time and size, no proxy, and, unless allowed, not to
//! addresses that only this machine or its network can reach. The guard looks at the address that the
//! connection is made to, of every hop anew.

mod address;
mod dial;
mod redirect;
mod request;
#[cfg(test)]
mod tests;
mod trust;

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;

use crate::time::Duration;
pub use address::is_private;
pub use dial::{Dialer, Dialled};
pub use request::request;
pub use trust::{BadPem, Trust};

/// Idle connections kept to one server.
const IDLE_PER_HOST_MAX: usize = 32;
/// How long an idle connection is kept.
const IDLE_KEPT: Duration = Duration::from_secs(30);

/// What is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long a request may take, redirects and answer included.
    pub timeout: Duration,
    /// Whether private, loopback and link-local addresses may be asked.
    pub allow_private: bool,
    /// The most that is read of an answer's body, in bytes.
    pub answer_max: usize,
    /// Redirects that are followed; of none, each is an answer like others.
    pub redirects_max: usize,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its code.
    pub status: StatusCode,
    /// Its body, up to [`Settings::answer_max`].
    pub body: Bytes,
    /// The body was longer.
    pub is_cut: bool,
}

impl Answer {
    /// Its body, for whom a part of it is of no use.
    ///
    /// # Errors
    /// When it was longer than what is read.
    pub fn whole(self) -> Result<Bytes, Failure> {
        if self.is_cut { Err(Failure::TooLong(self.body.len())) } else { Ok(self.body) }
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It cannot be asked at all.
    #[error("{0}")]
    Unaskable(&'static str),
    /// It took too long.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// The address is not one we may ask.
    #[error("the address of {0} is private or loopback, which the configuration does not allow")]
    Private(String),
    /// The answer is longer than allowed.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
    /// It leads from one place to the next and on.
    #[error("there are more than {0} redirects")]
    Redirects(usize),
    /// No connection, or it broke.
    #[error("{0}")]
    Broken(String),
}

/// Tells an address that may not be asked.
type Guard = fn(IpAddr) -> bool;

/// A client; clones share its connections.
#[derive(Clone, Debug)]
pub struct HttpClient {
    client: Client<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>,
    settings: Settings,
    refuses: Guard,
}

impl HttpClient {
    /// A client that trusts the certificates of Mozilla's list.
    ///
    /// # Errors
    /// When the TLS library has no protocol in common with itself, which no build has.
    pub fn new(settings: Settings) -> Result<Self, rustls::Error> {
        Self::trusting(settings, &Trust::default())
    }

    /// A client that trusts these.
    ///
    /// # Errors
    /// As [`HttpClient::new`].
    pub fn trusting(settings: Settings, trust: &Trust) -> Result<Self, rustls::Error> {
        Self::guarded(settings, trust, if settings.allow_private { |_| false } else { is_private })
    }

    fn guarded(settings: Settings, trust: &Trust, refuses: Guard) -> Result<Self, rustls::Error> {
        let connector = connector(settings.timeout, trust, refuses)?;
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_KEPT)
            .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
            .build(connector);
        Ok(Self { client, settings, refuses })
    }

    /// Sends a request and reads its answer, following redirects as far as the settings say.
    ///
    /// # Errors
    /// When there is no answer, or not in time, or from where it must not be.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Answer, Failure> {
        match tokio::time::timeout(self.settings.timeout, self.exchange(request)).await {
            Ok(done) => done,
            Err(_) => Err(Failure::TimedOut(self.settings.timeout)),
        }
    }

    async fn exchange(&self, mut request: Request<Bytes>) -> Result<Answer, Failure> {
        let mut followed = 0;
        loop {
            let response = self.ask(request.clone()).await?;
            if self.settings.redirects_max == 0 {
                return self.read(response).await;
            }
            let Some(next) = redirect::next(request, response.status(), response.headers())? else {
                return self.read(response).await;
            };
            if followed == self.settings.redirects_max {
                return Err(Failure::Redirects(followed));
            }
            followed += 1;
            request = next;
        }
    }

    /// Asks one server, if it may be asked; redirects are answers like others, and the body is for the
    /// caller to read. Takes what time it takes.
    ///
    /// # Errors
    /// When there is no answer, or from where it must not be.
    pub async fn ask(&self, request: Request<Bytes>) -> Result<Response<Incoming>, Failure> {
        let host = request.uri().host().unwrap_or_default().to_owned();
        // A host that is an address is not resolved, so the resolver cannot refuse it.
        let literal: Option<IpAddr> = host.trim_start_matches('[').trim_end_matches(']').parse().ok();
        if literal.is_some_and(self.refuses) {
            return Err(Failure::Private(host));
        }
        self.client.request(request.map(Full::new)).await.map_err(|error| failure(&error, &host))
    }

    async fn read(&self, response: Response<Incoming>) -> Result<Answer, Failure> {
        let (head, mut incoming) = response.into_parts();
        let mut answer = Answer { status: head.status, body: Bytes::new(), is_cut: false };
        let mut body = BytesMut::new();
        while let Some(frame) = incoming.frame().await {
            let frame = frame.map_err(|error| Failure::Broken(format!("the answer broke off: {error}")))?;
            let Ok(data) = frame.into_data() else { continue };
            let room = self.settings.answer_max - body.len();
            body.extend_from_slice(&data[..data.len().min(room)]);
            if data.len() > room {
                answer.is_cut = true;
                break;
            }
        }
        answer.body = body.freeze();
        Ok(answer)
    }
}

/// Makes connections, by TLS where the URI says so.
pub type Connector = HttpsConnector<HttpConnector<Resolver>>;

/// What makes connections within `timeout`, to none of the addresses that `refuses` names.
///
/// # Errors
/// When the TLS library has no protocol in common with itself, which no build has.
pub fn connector(timeout: Duration, trust: &Trust, refuses: Guard) -> Result<Connector, rustls::Error> {
    let mut connector = HttpConnector::new_with_resolver(Resolver { refuses });
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(timeout));
    let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(trust.roots.clone())
        .with_no_client_auth();
    Ok(HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .wrap_connector(connector))
}

/// What the client's error comes from, in words for the owner of the URI.
fn failure(error: &hyper_util::client::legacy::Error, host: &str) -> Failure {
    let mut words = Vec::new();
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<PrivateAddress>() {
            return Failure::Private(host.to_owned());
        }
        words.push(error.to_string());
        // An io::Error that wraps another hides it from `source`.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if inner.is_some_and(|inner| inner.is::<PrivateAddress>()) {
            return Failure::Private(host.to_owned());
        }
        cause = error.source();
    }
    Failure::Broken(words.pop().unwrap_or_default())
}

/// Every address of the name is private.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("a private address")]
struct PrivateAddress;

/// Resolves names by the system, and leaves out the addresses that may not be asked: the connection is
/// made to an address that was looked at, whatever the name says a moment later.
#[derive(Clone, Copy, Debug)]
pub struct Resolver {
    refuses: Guard,
}

impl tower::Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let refuses = self.refuses;
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let allowed: Vec<SocketAddr> =
                found.iter().filter(|address| !refuses(address.ip())).copied().collect();
            if allowed.is_empty() && !found.is_empty() {
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, PrivateAddress));
            }
            Ok(allowed.into_iter())
        })
    }
}
