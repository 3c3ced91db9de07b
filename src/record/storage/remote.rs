//! The storage itself: objects in one bucket, by their locations.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use object_store::aws::{AmazonS3, AmazonS3Builder, AwsCredential};
use object_store::multipart::{MultipartStore as _, PartId};
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, BackoffConfig, Error, GetOptions, GetRange, ObjectStore as _, ObjectStoreExt as _,
    PutMultipartOptions, PutOptions, PutPayload, RetryConfig, StaticCredentialProvider,
};
use tracing::warn;

use super::http::Connector;
use crate::config::{Bucket, S3Config};
use crate::net::http::Trust;

/// Tries of one request, beside the first; what they do not bring is tried again later by the owner.
const RETRIES: usize = 2;
/// How long a request may be tried again.
const RETRY_FOR: Duration = Duration::from_secs(20);
/// What a request's body is handed to the connection in.
const PIECE_BYTES: usize = 64 << 10;
/// The longest words of a failure, in characters; storage likes to answer with pages of XML.
const WORDS_MAX: usize = 300;

/// What the storage did not do, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        let words = error.to_string();
        let mut line: String = words.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some((end, _)) = line.char_indices().nth(WORDS_MAX) {
            line.truncate(end);
            line.push('…');
        }
        Self(line)
    }
}

/// S3-compatible storage. Clones share connections, which belong to the runtime that made them: each
/// runtime has its own. Debug output shows no credentials.
#[derive(Clone)]
pub struct Remote {
    store: Arc<AmazonS3>,
    bucket: Bucket,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("bucket", &self.bucket).finish_non_exhaustive()
    }
}

impl Remote {
    /// Storage in `bucket`, by the credentials (access key id, secret). Nothing is asked yet.
    ///
    /// # Errors
    /// When the endpoint is no URL.
    pub fn new(
        bucket: &Bucket,
        s3: &S3Config,
        (id, secret): (&str, &str),
        trust: &Trust,
    ) -> Result<Self, Refused> {
        let credential = AwsCredential { key_id: id.to_owned(), secret_key: secret.to_owned(), token: None };
        let in_path = s3.names_bucket_in_path();
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&bucket.name)
            .with_region(&s3.region)
            .with_credentials(Arc::new(StaticCredentialProvider::new(credential)))
            .with_virtual_hosted_style_request(!in_path)
            .with_allow_http(true)
            // One object a request: not all that is called compatible takes more.
            .with_disable_bulk_delete(true)
            .with_retry(RetryConfig {
                backoff: BackoffConfig::default(),
                max_retries: RETRIES,
                retry_timeout: RETRY_FOR,
            })
            .with_http_connector(Connector::new(trust.clone()));
        if let Some(endpoint) = &s3.endpoint {
            builder = builder.with_endpoint(endpoint_of(endpoint, &bucket.name, in_path)?);
        }
        Ok(Self { store: Arc::new(builder.build()?), bucket: bucket.clone() })
    }

    /// Where a file of this name is put.
    pub fn location(&self, name: &str) -> String {
        let Bucket { name: bucket, prefix } = &self.bucket;
        let slash = if prefix.is_empty() { "" } else { "/" };
        format!("s3://{bucket}/{prefix}{slash}{name}")
    }

    /// The key of what is at a location.
    fn key(&self, location: &str) -> Result<Path, Refused> {
        let own = location.strip_prefix("s3://").and_then(|rest| rest.strip_prefix(&self.bucket.name));
        let key = own.and_then(|rest| rest.strip_prefix('/'));
        let key = key.ok_or_else(|| {
            Refused(format!(
                "{location} is not in the bucket of record.storage, which is {}",
                self.bucket.name
            ))
        })?;
        Path::parse(key).map_err(|error| Refused(error.to_string()))
    }

    /// Puts an object of one piece.
    ///
    /// # Errors
    /// What the storage says, as of all that follow.
    pub(super) async fn put(&self, location: &str, kind: &'static str, bytes: Bytes) -> Result<(), Refused> {
        let options = PutOptions { attributes: of_kind(kind), ..PutOptions::default() };
        self.store.put_opts(&self.key(location)?, payload(&bytes), options).await?;
        Ok(())
    }

    /// Begins an upload in parts; gives its id.
    pub(super) async fn begin(&self, location: &str, kind: &'static str) -> Result<String, Refused> {
        let options = PutMultipartOptions { attributes: of_kind(kind), ..PutMultipartOptions::default() };
        Ok(self.store.create_multipart_opts(&self.key(location)?, options).await?)
    }

    /// Uploads a part, counted from 0.
    pub(super) async fn part(
        &self,
        location: &str,
        id: &String,
        index: usize,
        bytes: Bytes,
    ) -> Result<PartId, Refused> {
        Ok(self.store.put_part(&self.key(location)?, id, index, payload(&bytes)).await?)
    }

    /// Makes one object of all parts.
    pub(super) async fn complete(
        &self,
        location: &str,
        id: &String,
        parts: Vec<PartId>,
    ) -> Result<(), Refused> {
        self.store.complete_multipart(&self.key(location)?, id, parts).await?;
        Ok(())
    }

    /// Gives an upload in parts up. One that the storage does not know is given up already; where it may
    /// not be given up it stays, which must not hold up what is to be uploaded.
    pub(super) async fn abort(&self, location: &str, id: &String) -> Result<(), Refused> {
        let done = self.store.abort_multipart(&self.key(location)?, id).await;
        if let Err(error @ (Error::PermissionDenied { .. } | Error::Unauthenticated { .. })) = done {
            let refused = Refused::from(error);
            warn!(location, "parts of an upload that was broken off stay in the storage: {refused}");
            return Ok(());
        }
        gone_is_fine(done)
    }

    /// The size of an object, if it is there.
    pub(super) async fn size(&self, location: &str) -> Result<Option<u64>, Refused> {
        match self.store.head(&self.key(location)?).await {
            Ok(found) => Ok(Some(found.size)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes an object. One that is not there is deleted already.
    pub(super) async fn delete(&self, location: &str) -> Result<(), Refused> {
        gone_is_fine(self.store.delete(&self.key(location)?).await)
    }

    /// Reads bytes of an object, which has `size` of them. `None` when it is not there.
    pub async fn read(
        &self,
        location: &str,
        range: Range<u64>,
        size: u64,
    ) -> Result<Option<BoxStream<'static, Result<Bytes, Refused>>>, Refused> {
        let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
        let found = match self.store.get_opts(&self.key(location)?, options).await {
            Ok(found) => found,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if found.meta.size != size {
            return Err(Refused(format!("{location} has {} bytes and should have {size}", found.meta.size)));
        }
        Ok(Some(found.into_stream().map(|piece| piece.map_err(Refused::from)).boxed()))
    }
}

/// The server's URL as the object store wants it: with the bucket in front where it is named in the host.
fn endpoint_of(endpoint: &str, bucket: &str, in_path: bool) -> Result<String, Refused> {
    let no_url = || Refused(format!("record.s3_endpoint {endpoint:?} is no URL with a host"));
    let url = url::Url::parse(endpoint).map_err(|_| no_url())?;
    let host = url.host_str().ok_or_else(no_url)?;
    let port = url.port().map_or(String::new(), |port| format!(":{port}"));
    let front = if in_path { String::new() } else { format!("{bucket}.") };
    let path = url.path().trim_end_matches('/');
    Ok(format!("{}://{front}{host}{port}{path}", url.scheme()))
}

fn of_kind(media_type: &'static str) -> Attributes {
    Attributes::from_iter([(Attribute::ContentType, media_type)])
}

/// In pieces, so that it is seen when the connection takes no more.
fn payload(bytes: &Bytes) -> PutPayload {
    (0..bytes.len())
        .step_by(PIECE_BYTES)
        .map(|at| bytes.slice(at..bytes.len().min(at + PIECE_BYTES)))
        .collect()
}

fn gone_is_fine(done: Result<(), Error>) -> Result<(), Refused> {
    match done {
        Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(prefix: &str) -> Remote {
        let bucket = Bucket { name: "calls".to_owned(), prefix: prefix.to_owned() };
        let s3 = S3Config {
            endpoint: Some("http://127.0.0.1:9".to_owned()),
            region: "eu-central-1".to_owned(),
            path_style: None,
        };
        Remote::new(&bucket, &s3, ("an-id", "a-secret"), &Trust::default()).expect("good settings")
    }

    #[test]
    fn a_location_is_in_the_bucket_under_the_prefix_and_keeps_meaning_what_it_meant() {
        let (bare, under) = (remote(""), remote("a/b"));
        assert_eq!(bare.location("x.wav"), "s3://calls/x.wav");
        assert_eq!(under.location("x.wav"), "s3://calls/a/b/x.wav");
        assert_eq!(
            bare.key(&under.location("x.wav")),
            Ok(Path::from("a/b/x.wav")),
            "whatever the prefix is now"
        );
        for elsewhere in ["s3://other/x.wav", "s3://calls2/x.wav", "x.wav"] {
            assert!(bare.key(elsewhere).is_err(), "{elsewhere}");
        }
    }

    #[test]
    fn the_bucket_is_named_in_the_path_or_in_front_of_the_host() {
        let of = |endpoint: &str, in_path| endpoint_of(endpoint, "calls", in_path).ok();
        assert_eq!(of("http://s3.example:9000/", true).as_deref(), Some("http://s3.example:9000"));
        assert_eq!(of("https://s3.example", false).as_deref(), Some("https://calls.s3.example"));
        assert_eq!(of("not a url", true), None);
    }

    #[test]
    fn nothing_shows_the_credentials() {
        let shown = format!("{:?}", remote(""));
        assert!(shown.contains("calls") && !shown.contains("secret") && !shown.contains("an-id"), "{shown}");
    }

    #[test]
    fn words_are_one_line_of_bounded_length() {
        let source = "<xml>\n  very\tlong ".repeat(100).into();
        let Refused(words) = Error::Generic { store: "S3", source }.into();
        assert!(words.chars().count() == WORDS_MAX + 1 && !words.contains('\n'), "{words}");
    }
}
