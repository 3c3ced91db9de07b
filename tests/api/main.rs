//! The REST API's contract: every answer is held against the OpenAPI document.

#[path = "../support/postgres.rs"]
mod postgres;

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

#[test]
fn the_same_tests_pass_on_postgres() {
    postgres::run_these_tests_again("");
}
