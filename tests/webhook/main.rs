//! Webhooks against real servers on loopback: signed, in order, through outages and kills.

#[path = "../support/postgres.rs"]
mod postgres;

mod deliveries;
mod kills;
mod outage;
mod receiver;
mod world;

#[test]
fn the_same_tests_pass_on_postgres() {
    postgres::run_these_tests_again("");
}
