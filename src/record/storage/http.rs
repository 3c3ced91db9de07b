//! HTTP to the storage: hyper, and rustls on ring, as everywhere in this server. How long a request takes
//! is not limited, as sizes and lines differ; how long nothing may move is.

use std::error::Error;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse, HttpResponseBody,
    HttpService,
};

use crate::net::http::tls;
use crate::time::Duration;

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long nothing may move, either way.
const STALLED_AFTER: Duration = Duration::from_secs(30);
/// How long an idle connection is kept.
const IDLE_KEPT: Duration = Duration::from_secs(30);

/// Makes clients for the object store.
#[derive(Debug)]
pub(super) struct Connector;

impl object_store::client::HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let tls = tls().map_err(|error| object_store::Error::Generic { store: "S3", source: error.into() })?;
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let client = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_KEPT)
            .build(connector);
        Ok(HttpClient::new(Service { client }))
    }
}

#[derive(Debug)]
struct Service {
    client: legacy::Client<HttpsConnector<HttpConnector>, Watched>,
}

impl HttpService for Service {
    fn call<'a, 'b>(
        &'a self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(self.exchange(request))
    }
}

impl Service {
    async fn exchange(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let taken = Arc::new(AtomicU64::new(0));
        let request = request.map(|body| Watched { body, taken: taken.clone() });
        let mut asked = pin!(self.client.request(request));
        let mut seen = 0;
        let response = loop {
            if let Ok(done) = tokio::time::timeout(STALLED_AFTER, &mut asked).await {
                break done.map_err(|error| failed(&error, error.is_connect()))?;
            }
            match taken.load(Ordering::Relaxed) {
                now if now == seen => return Err(stalled()),
                now => seen = now,
            }
        };
        let (head, body) = response.into_parts();
        // Fused, as a body may be asked again after its end.
        let frames = stream::unfold(Some(body), next_frame).fuse();
        Ok(HttpResponse::from_parts(head, HttpResponseBody::new(StreamBody::new(frames))))
    }
}

/// The next frame of an answer; after a failure there is none.
async fn next_frame(
    body: Option<Incoming>,
) -> Option<(Result<Frame<Bytes>, HttpError>, Option<Incoming>)> {
    let mut body = body?;
    match tokio::time::timeout(STALLED_AFTER, body.frame()).await {
        Ok(None) => None,
        Ok(Some(Ok(frame))) => Some((Ok(frame), Some(body))),
        Ok(Some(Err(error))) => Some((Err(failed(&error, false)), None)),
        Err(_) => Some((Err(stalled()), None)),
    }
}

/// A request's body that counts what the connection has taken of it.
#[derive(Debug)]
struct Watched {
    body: HttpRequestBody,
    taken: Arc<AtomicU64>,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        self.taken.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Why there is no answer, in words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Words(String);

fn stalled() -> HttpError {
    HttpError::new(HttpErrorKind::Timeout, Words(format!("nothing moved for {STALLED_AFTER:?}")))
}

/// A failure as the object store tells them apart, with what it comes from.
fn failed(error: &(dyn Error + 'static), is_connect: bool) -> HttpError {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    // What broke off may be asked again; only connecting may be, whatever was asked.
    let kind = if is_connect { HttpErrorKind::Connect } else { HttpErrorKind::Interrupted };
    HttpError::new(kind, Words(innermost.to_string()))
}
