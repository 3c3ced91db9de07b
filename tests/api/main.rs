//! The REST API's contract: every answer is held against the OpenAPI document.

mod access;
mod conferences;
mod errors;
mod harness;
mod lists;
mod transcribes;
