//! Recordings in S3-compatible storage: a real server against a real S3 server, over a line that stops,
//! breaks off and lies, and through kill -9.

#![allow(clippy::disallowed_methods, reason = "other programs run by the real clock")]

mod moves;
mod s3;
mod world;
