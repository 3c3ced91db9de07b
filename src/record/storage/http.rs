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
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse, HttpResponseBody,
    HttpService,
};

use crate::net::http::{self, Trust};
use crate::time::Duration;

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long nothing may move, either way.
const STALLED_AFTER: Duration = Duration::from_secs(30);
/// How long an idle connection is kept.
const IDLE_KEPT: Duration = Duration::from_secs(30);

/// Makes clients for the object store.
#[derive(Debug)]
pub(super) struct Connector {
    /// How long nothing may move, either way.
    stalled_after: Duration,
    /// Whose certificates are trusted.
    trust: Trust,
}

impl Connector {
    pub(super) fn new(trust: Trust) -> Self {
        Self { stalled_after: STALLED_AFTER, trust }
    }
}

impl object_store::client::HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let connector = http::connector(CONNECT_TIMEOUT, &self.trust, |_| false)
            .map_err(|error| object_store::Error::Generic { store: "S3", source: error.into() })?;
        let client = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_KEPT)
            .build(connector);
        Ok(HttpClient::new(Service { client, stalled_after: self.stalled_after }))
    }
}

#[derive(Debug)]
struct Service {
    client: legacy::Client<http::Connector, Watched>,
    stalled_after: Duration,
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
            if let Ok(done) = tokio::time::timeout(self.stalled_after, &mut asked).await {
                break done.map_err(|error| failed(&error, error.is_connect()))?;
            }
            match taken.load(Ordering::Relaxed) {
                now if now == seen => return Err(stalled(self.stalled_after)),
                now => seen = now,
            }
        };
        let (head, body) = response.into_parts();
        // Fused, as a body may be asked again after its end.
        let limit = self.stalled_after;
        let frames = stream::unfold(Some(body), move |body| next_frame(body, limit)).fuse();
        Ok(HttpResponse::from_parts(head, HttpResponseBody::new(StreamBody::new(frames))))
    }
}

/// The next frame of an answer; after a failure there is none.
async fn next_frame(
    body: Option<Incoming>,
    limit: Duration,
) -> Option<(Result<Frame<Bytes>, HttpError>, Option<Incoming>)> {
    let mut body = body?;
    match tokio::time::timeout(limit, body.frame()).await {
        Ok(None) => None,
        Ok(Some(Ok(frame))) => Some((Ok(frame), Some(body))),
        Ok(Some(Err(error))) => Some((Err(failed(&error, false)), None)),
        Err(_) => Some((Err(stalled(limit)), None)),
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

fn stalled(limit: Duration) -> HttpError {
    HttpError::new(HttpErrorKind::Timeout, Words(format!("nothing moved for {limit:?}")))
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

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use object_store::PutPayload;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    const LIMIT: Duration = Duration::from_millis(300);
    /// More than the kernel keeps for a server that does not read.
    const BODY: usize = 32 << 20;

    /// A server that takes up to `most` bytes of a request, pausing after each `pause_each`, and answers
    /// one that it has taken whole with a body that breaks off.
    async fn server(most: usize, pause_each: usize) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let (mut taken, mut next) = (0, pause_each);
            let mut bytes = vec![0; 256 << 10];
            while taken < most {
                taken += stream.read(&mut bytes).await.expect("a request");
                if taken >= next {
                    tokio::time::sleep(LIMIT / 3).await;
                    next += pause_each;
                }
            }
            if taken > BODY {
                let head = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n12345";
                stream.write_all(head).await.expect("it listens");
            }
            // Open, and silent.
            std::future::pending::<()>().await;
        });
        address
    }

    async fn put(server: SocketAddr) -> Result<HttpResponse, HttpError> {
        let connector = Connector { stalled_after: LIMIT, trust: Trust::default() };
        let client = object_store::client::HttpConnector::connect(&connector, &ClientOptions::new())
            .expect("a client");
        let pieces: PutPayload = (0..BODY / 65_536).map(|_| Bytes::from(vec![1; 65_536])).collect();
        let request = hyper::Request::put(format!("http://{server}/x")).body(HttpRequestBody::from(pieces));
        client.execute(request.expect("a request")).await
    }

    #[tokio::test]
    async fn a_server_that_takes_nothing_more_is_given_up() {
        let failed = put(server(1 << 20, usize::MAX).await).await.expect_err("it stopped");
        assert_eq!(failed.kind(), HttpErrorKind::Timeout);
        assert!(failed.to_string().contains("nothing moved for 300ms"), "{failed}");
    }

    #[tokio::test]
    async fn one_that_is_slow_is_waited_for_and_one_that_falls_silent_is_not() {
        // Many times the limit in all.
        let slow = server(BODY + 1, BODY / 10).await;
        let begun = tokio::time::Instant::now();
        let answer = put(slow).await.expect("it takes its time");
        assert!(begun.elapsed() > LIMIT * 2, "{:?}", begun.elapsed());
        let failed = answer.into_body().collect().await.expect_err("half of its body never comes");
        assert_eq!(failed.kind(), HttpErrorKind::Timeout);
    }
}
