//! A program to count instructions of: `instructions tick|parse ROUNDS`. `benches/budget` runs it
//! twice under valgrind and takes the difference, so that start-up does not count.

mod workload;

use std::hint::black_box;

use bytes::Bytes;
use confab::sip::Request;

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let (what, rounds) = (arguments.next(), arguments.next().and_then(|rounds| rounds.parse::<u64>().ok()));
    match (what.as_deref(), rounds) {
        (Some("tick"), Some(rounds)) => {
            // The first second fills the jitter buffers and is in both counts.
            let mut shard = workload::BusyShard::new(20, 10, 2);
            println!("{} calls", shard.calls());
            for _ in 0..50 + rounds {
                black_box(shard.run_tick());
            }
        }
        (Some("parse"), Some(rounds)) => {
            let invite = Bytes::from_static(workload::INVITE);
            for _ in 0..rounds {
                black_box(Request::parse(black_box(invite.clone())).expect("a valid INVITE"));
            }
        }
        // `cargo test --benches` runs it without arguments.
        _ => println!("usage: instructions tick|parse ROUNDS"),
    }
}
