//! A bad network in a box: a seeded model of loss and delay for the packets we send.

use std::str::FromStr;

use crate::rng::Rng;
use crate::time::Duration;

/// The longest delay a model may add.
const DELAY_LIMIT_MS: u64 = 1000;
/// Parts per million in one.
const MILLION: u64 = 1_000_000;

/// What a network does to packets; read from `loss=3,jitter=0-80,seed=1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkOptions {
    /// Packets lost, in parts per million.
    pub loss_ppm: u64,
    /// The least delay of a packet, in milliseconds.
    pub delay_min_ms: u64,
    /// The greatest delay of a packet, in milliseconds. Delays are uniform and independent, so that
    /// packets overtake each other.
    pub delay_max_ms: u64,
    /// The seed of the random choices.
    pub seed: u64,
}

/// Why a network's description does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}`: write loss=PERCENT, jitter=MIN-MAX (milliseconds, at most {DELAY_LIMIT_MS}) and seed=NUMBER, with commas between"
)]
pub struct BadNetwork(String);

impl NetworkOptions {
    /// A network that loses `loss_percent` and delays by 0 to `jitter_ms`.
    pub fn new(loss_percent: f64, jitter_ms: u64, seed: u64) -> Option<NetworkOptions> {
        let holds = (0.0..=100.0).contains(&loss_percent) && jitter_ms <= DELAY_LIMIT_MS;
        let loss_ppm = (loss_percent * 10_000.0).round() as u64;
        holds.then_some(NetworkOptions { loss_ppm, delay_min_ms: 0, delay_max_ms: jitter_ms, seed })
    }

    /// Whether every packet passes at once.
    pub fn is_perfect(&self) -> bool {
        self.loss_ppm == 0 && self.delay_max_ms == 0
    }
}

impl FromStr for NetworkOptions {
    type Err = BadNetwork;

    fn from_str(text: &str) -> Result<NetworkOptions, BadNetwork> {
        let bad = || BadNetwork(text.to_owned());
        let mut options = NetworkOptions { loss_ppm: 0, delay_min_ms: 0, delay_max_ms: 0, seed: 1 };
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').ok_or_else(bad)?;
            match key.trim() {
                "loss" => {
                    let percent: f64 = value.trim_end_matches('%').parse().map_err(|_| bad())?;
                    options.loss_ppm = NetworkOptions::new(percent, 0, 0).ok_or_else(bad)?.loss_ppm;
                }
                "jitter" => {
                    let (min, max) = value.split_once('-').unwrap_or(("0", value));
                    options.delay_min_ms = min.parse().map_err(|_| bad())?;
                    options.delay_max_ms = max.parse().map_err(|_| bad())?;
                }
                "seed" => options.seed = value.parse().map_err(|_| bad())?,
                _ => return Err(bad()),
            }
        }
        let in_order = options.delay_min_ms <= options.delay_max_ms && options.delay_max_ms <= DELAY_LIMIT_MS;
        if in_order { Ok(options) } else { Err(bad()) }
    }
}

/// The network at work. The same options give the same fate to the same packets.
#[derive(Clone, Debug)]
pub struct Network {
    options: NetworkOptions,
    rng: Rng,
}

impl Network {
    /// A network that starts from its seed.
    pub fn new(options: NetworkOptions) -> Network {
        Network { options, rng: Rng::from_number(options.seed) }
    }

    /// The next packet's fate: its delay, or `None` when it is lost.
    pub fn pass(&mut self) -> Option<Duration> {
        let lost = self.rng.below(MILLION) < self.options.loss_ppm;
        let spread_us = (self.options.delay_max_ms - self.options.delay_min_ms) * 1000;
        let delay_us = self.options.delay_min_ms * 1000 + self.rng.below(spread_us + 1);
        (!lost).then_some(Duration::from_micros(delay_us))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_its_description() {
        let read: NetworkOptions = "loss=3,jitter=10-80,seed=7".parse().expect("a description");
        assert_eq!(read, NetworkOptions { loss_ppm: 30_000, delay_min_ms: 10, delay_max_ms: 80, seed: 7 });
        let short: NetworkOptions = "jitter=40".parse().expect("a description");
        assert_eq!((short.delay_min_ms, short.delay_max_ms, short.seed), (0, 40, 1));
        assert!("".parse::<NetworkOptions>().expect("nothing at all").is_perfect());
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        for text in [
            "loss",
            "loss=x",
            "loss=101",
            "loss=-1",
            "loss=NaN",
            "jitter=80-10",
            "jitter=0-9999",
            "speed=3",
            "seed=-1",
        ] {
            assert!(text.parse::<NetworkOptions>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_fates() {
        let options: NetworkOptions = "loss=10,jitter=0-60,seed=3".parse().expect("a description");
        let (mut one, mut two) = (Network::new(options), Network::new(options));
        let mut other = Network::new(NetworkOptions { seed: 4, ..options });
        let fates: Vec<_> = (0..1000).map(|_| one.pass()).collect();
        assert!(fates.iter().all(|fate| *fate == two.pass()));
        assert!(fates.iter().any(|fate| *fate != other.pass()));
    }

    #[test]
    fn loses_and_delays_as_it_says() {
        let options: NetworkOptions = "loss=10,jitter=20-60,seed=3".parse().expect("a description");
        let mut network = Network::new(options);
        let delays: Vec<Duration> = (0..20_000).filter_map(|_| network.pass()).collect();
        assert!((17_700..18_300).contains(&delays.len()), "{}", delays.len());
        let (least, most) = (delays.iter().min(), delays.iter().max());
        assert!(least >= Some(&Duration::from_millis(20)) && least < Some(&Duration::from_millis(21)));
        assert!(most <= Some(&Duration::from_millis(60)) && most > Some(&Duration::from_millis(59)));
    }
}
