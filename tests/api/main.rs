//! The REST API's contract: every answer is held against the OpenAPI document.

mod access;
mod conferences;
mod errors;
mod flows;
mod harness;
mod lists;
mod recordings;
mod streams;
mod tenancy;
mod transcribes;
mod webhooks;
mod ws;
