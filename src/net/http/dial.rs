//! Connections on which another protocol than HTTP's requests is spoken, such as WebSocket.

use hyper::Uri;
use hyper_rustls::MaybeHttpsStream;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower::ServiceExt as _;

use super::{Connector, Failure, Trust, connector};
use crate::time::Duration;

/// A connection, by TLS or not.
pub type Dialled = TokioIo<MaybeHttpsStream<TokioIo<TcpStream>>>;

/// Makes connections to the servers that the operator chose, wherever they are.
#[derive(Clone, Debug)]
pub struct Dialer {
    connector: Connector,
    timeout: Duration,
}

impl Dialer {
    /// One whose connections take `timeout` at most.
    ///
    /// # Errors
    /// When the TLS library has no protocol in common with itself, which no build has.
    pub fn new(timeout: Duration, trust: &Trust) -> Result<Self, rustls::Error> {
        Ok(Self { connector: connector(timeout, trust, |_| false)?, timeout })
    }

    /// Connects to where a URI of http or https leads.
    ///
    /// # Errors
    /// When there is no connection in time.
    pub async fn dial(&self, uri: Uri) -> Result<Dialled, Failure> {
        match tokio::time::timeout(self.timeout, self.connector.clone().oneshot(uri)).await {
            Ok(Ok(stream)) => Ok(TokioIo::new(stream)),
            Ok(Err(error)) => Err(Failure::Broken(error.to_string())),
            Err(_) => Err(Failure::TimedOut(self.timeout)),
        }
    }
}
