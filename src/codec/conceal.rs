//! Packet loss concealment: makes up what did not come.
//!
//! A voice is continued by its own pitch period. Where the sound after the gap is at hand already,
//! the continuation is bent (its time warped by a few samples) so that it arrives there in phase,
//! the sound after the gap is continued backwards in the same way, and one fades into the other.

use super::pitch::{self, Lags, Period};

/// The highest sampling rate.
const RATE_MAX_HZ: usize = 48_000;
/// Past that is looked at, in milliseconds.
const PAST_MS: usize = 48;
/// The longest gap that is bridged to what follows it, in milliseconds.
const BRIDGE_MAX_MS: usize = 60;
/// Sound after the gap that is looked at, in milliseconds.
const FUTURE_MS: usize = 40;
/// [`Concealer::future_len`] at the highest rate.
pub const FUTURE_LEN_MAX: usize = FUTURE_MS * RATE_MAX_HZ / 1000;
/// [`Concealer::past_len`] at the highest rate.
const PAST_LEN_MAX: usize = PAST_MS * RATE_MAX_HZ / 1000;
/// Scratch: the longest bridge and what it is matched with.
const SCRATCH: usize = (BRIDGE_MAX_MS + FUTURE_MS) * RATE_MAX_HZ / 1000;
/// Over this long the period at the end of the past is judged, in milliseconds.
const WINDOW_MS: usize = 6;
/// Without a future in sight the sound fades and is gone after this many milliseconds of gap.
const GONE_MS: f32 = 100.0;
/// From what was made up back to what was sent, in milliseconds.
const RECOVER_MS: usize = 5;
/// The step where a continuation begins is smoothed over this long, in microseconds.
const JOINT_US: usize = 500;
/// Below this likeness a signal has no period: it is noise, and repeating it would make it a tone.
const VOICED: f32 = 0.6;

/// A bridge whose two sides tell nothing alike is a guess, and a soft guess offends less: its level.
const UNLIKE_LEVEL: f32 = 0.5;
/// A bent continuation is matched with what it leads to over this long, in milliseconds.
const MATCH_MS: usize = 8;
/// Noise repeats after up to this many of the lags it resembles itself most at.
const NOISE_CYCLES: usize = 3;

/// What comes after a gap.
#[derive(Clone, Copy, Debug)]
pub struct Bridge<'a> {
    /// Samples from the end of the past to the first of `future`.
    pub gap: usize,
    /// The first samples after the gap.
    pub future: &'a [i16],
}

/// The concealment of one stream.
#[derive(Clone, Debug)]
pub struct Concealer {
    rate_hz: usize,
    lags: Lags,
    /// Samples made up since the last true one.
    run: usize,
    /// The period in use, kept over a run.
    period: Option<Period>,
    /// The end of what was made up does not yet lead to what follows.
    is_open: bool,
}

impl Concealer {
    /// A concealment for `rate_hz` of 8, 16 or 48 kHz.
    pub const fn new(rate_hz: u32) -> Self {
        Self { rate_hz: rate_hz as usize, lags: Lags::at(rate_hz), run: 0, period: None, is_open: false }
    }

    /// Samples of past that [`Concealer::conceal`] wants.
    pub const fn past_len(&self) -> usize {
        self.samples(PAST_MS)
    }

    /// Samples after a gap that are of use.
    pub const fn future_len(&self) -> usize {
        self.samples(FUTURE_MS)
    }

    /// The longest gap worth a [`Bridge`], in samples.
    pub const fn bridge_max(&self) -> usize {
        self.samples(BRIDGE_MAX_MS)
    }

    /// Samples made up since the last true one.
    pub const fn run(&self) -> usize {
        self.run
    }

    /// Whether the sound has faded to silence.
    pub fn is_faded(&self) -> bool {
        self.run >= self.samples(GONE_MS as usize)
    }

    /// Writes what `past` may have gone on to. With a `bridge`, `out` is the beginning of its gap.
    pub fn conceal(&mut self, past: &[i16], out: &mut [i16], bridge: Option<Bridge>) {
        let mut scratch = [0.0_f32; PAST_LEN_MAX];
        let past =
            floats(past.get(past.len().saturating_sub(self.past_len())..).unwrap_or(past), &mut scratch);
        if self.run == 0 {
            self.period = pitch::at_end(past, self.lags, self.samples(WINDOW_MS).min(past.len() / 2));
        }
        match bridge.filter(|bridge| self.can_bridge(bridge, out.len())) {
            Some(bridge) => {
                self.bridge(past, out, bridge);
                self.is_open = bridge.gap > out.len();
            }
            None => {
                self.go_on(past, out);
                self.is_open = true;
            }
        }
        self.run += out.len();
    }

    /// Tells that true sound follows: fades into its beginning from what was made up before it.
    pub fn recover(&mut self, past: &[i16], real: &mut [i16]) {
        if self.is_open && !past.is_empty() {
            let mut on = [0_i16; RECOVER_MS * RATE_MAX_HZ / 1000];
            let length = self.samples(RECOVER_MS).min(real.len());
            let on = &mut on[..length];
            if self.is_faded() {
                on.fill(0);
            } else {
                let mut scratch = [0.0_f32; PAST_LEN_MAX];
                let past = floats(
                    past.get(past.len().saturating_sub(self.past_len())..).unwrap_or(past),
                    &mut scratch,
                );
                self.go_on(past, on);
            }
            for (index, (real, &on)) in real.iter_mut().zip(on.iter()).enumerate() {
                let (old, new) = ((length - index) as i32, index as i32);
                *real = ((i32::from(on) * old + i32::from(*real) * new) / length as i32) as i16;
            }
        }
        self.rest();
    }

    /// Forgets the run.
    pub fn rest(&mut self) {
        self.run = 0;
        self.period = None;
        self.is_open = false;
    }

    const fn samples(&self, ms: usize) -> usize {
        ms * self.rate_hz / 1000
    }

    fn can_bridge(&self, bridge: &Bridge, out: usize) -> bool {
        bridge.gap >= out && bridge.gap <= self.bridge_max() && bridge.future.len() >= self.lags.min * 2
    }

    /// Continues the past with nothing ahead.
    fn go_on(&mut self, past: &[f32], out: &mut [i16]) {
        let mut scratch = [0.0_f32; SCRATCH];
        let on = &mut scratch[..out.len().min(SCRATCH)];
        self.extend(past, self.period, on);
        let lag = self.period.map_or(0, |period| period.lag);
        for (index, (out, &sample)) in out.iter_mut().zip(on.iter()).enumerate() {
            // The past's last period may be made up and faded itself.
            let source = (self.run + index % lag.max(1)).saturating_sub(lag);
            let before = self.gain(source);
            let gain = if before > 0.0 { self.gain(self.run + index) / before } else { 0.0 };
            *out = clamped(sample * gain);
        }
    }

    /// The gain `run` samples into a gap.
    fn gain(&self, run: usize) -> f32 {
        let ms = run as f32 * 1000.0 / self.rate_hz as f32;
        (1.0 - ms / GONE_MS).max(0.0)
    }

    /// Fills `on` with the continuation of `past`.
    fn extend(&mut self, past: &[f32], period: Option<Period>, on: &mut [f32]) {
        let Some(period) = period.filter(|period| period.lag <= past.len()) else {
            on.fill(0.0);
            return;
        };
        let is_voiced = period.likeness >= VOICED;
        // Noise repeats after as long as there is past, so that no tone is heard.
        let cycle =
            if is_voiced { period.lag } else { (past.len() / period.lag).min(NOISE_CYCLES) * period.lag };
        let last = &past[past.len() - cycle..];
        for (sample, &before) in on.iter_mut().zip(last.iter().cycle()) {
            *sample = before;
        }
        self.smooth_joint(past, cycle, on);
    }

    /// Lets the step between the past's end and its continuation die away.
    fn smooth_joint(&self, past: &[f32], cycle: usize, on: &mut [f32]) {
        let (Some(&end), Some(&cycle_end)) = (past.last(), past.get(past.len().wrapping_sub(cycle + 1)))
        else {
            return;
        };
        let step = end - cycle_end;
        let length = JOINT_US * self.rate_hz / 1_000_000;
        for (index, sample) in on.iter_mut().take(length).enumerate() {
            *sample += step * (length - index) as f32 / (length + 1) as f32;
        }
    }

    /// Goes from the past to the future.
    fn bridge(&mut self, past: &[f32], out: &mut [i16], bridge: Bridge) {
        let mut scratch = [0.0_f32; FUTURE_LEN_MAX];
        let future = floats(bridge.future, &mut scratch);
        // Seen from the future, the past is what comes.
        let mut scratch = [0.0_f32; FUTURE_LEN_MAX];
        let future_back = reversed(future, &mut scratch);
        let mut scratch = [0.0_f32; PAST_LEN_MAX];
        let past_back = reversed(past, &mut scratch);

        let ahead = self.period;
        let window = self.samples(WINDOW_MS).min(future.len() / 2);
        let behind = pitch::at_end(future_back, self.lags, window);

        let mut forward = [0.0_f32; SCRATCH];
        let forward = &mut forward[..bridge.gap];
        self.lead(past, ahead, future, forward);
        let mut backward = [0.0_f32; SCRATCH];
        let backward = &mut backward[..bridge.gap];
        self.lead(future_back, behind, past_back, backward);
        backward.reverse();

        let alike = pitch::likeness(forward, backward, self.lags.step).clamp(0.0, 1.0);
        let level = UNLIKE_LEVEL + (1.0 - UNLIKE_LEVEL) * alike;
        for (index, out) in out.iter_mut().enumerate() {
            let new = (index as f32 + 0.5) / bridge.gap as f32;
            let old = 1.0 - new;
            *out = clamped((forward[index] * old + backward[index] * new) * level);
        }
    }

    /// Fills `on` with `from` continued, its time bent so that it meets `to` in phase.
    fn lead(&mut self, from: &[f32], period: Option<Period>, to: &[f32], on: &mut [f32]) {
        let mut scratch = [0.0_f32; SCRATCH];
        let gap = on.len();
        let lag = period.map_or(0, |period| period.lag);
        let bend_max = (lag / 2).min(gap / 4);
        let matched = to.len().min(self.samples(MATCH_MS));
        let length = gap + bend_max + matched;
        let straight = &mut scratch[..length.min(SCRATCH)];
        self.extend(from, period, straight);
        let mut best = (gap, VOICED);
        if period.is_some_and(|period| period.likeness >= VOICED) {
            for meet in gap - bend_max..=gap + bend_max {
                let Some(there) = straight.get(meet..meet + matched) else { break };
                let likeness = pitch::likeness(there, &to[..matched], self.lags.step);
                if likeness > best.1 {
                    best = (meet, likeness);
                }
            }
        }
        let pace = best.0 as f32 / gap as f32;
        for (index, sample) in on.iter_mut().enumerate() {
            let at = index as f32 * pace;
            let whole = at as usize;
            let part = at - whole as f32;
            let near =
                |offset: usize| straight.get((whole + offset).saturating_sub(1)).copied().unwrap_or(0.0);
            *sample = cubic([near(0), near(1), near(2), near(3)], part);
        }
    }
}

/// Catmull-Rom interpolation between the two middle points.
fn cubic([a, b, c, d]: [f32; 4], part: f32) -> f32 {
    let curve = 3.0 * (b - c) + d - a;
    let slope = 2.0 * a - 5.0 * b + 4.0 * c - d;
    b + 0.5 * part * (c - a + part * (slope + part * curve))
}

fn clamped(sample: f32) -> i16 {
    sample.clamp(f32::from(i16::MIN), f32::from(i16::MAX)).round_ties_even() as i16
}

/// `samples` as floats, as many as fit.
fn floats<'a>(samples: &[i16], scratch: &'a mut [f32]) -> &'a [f32] {
    let length = samples.len().min(scratch.len());
    scratch.iter_mut().zip(samples).for_each(|(float, &sample)| *float = f32::from(sample));
    &scratch[..length]
}

/// `samples` last first, as many from the start as fit.
fn reversed<'a>(samples: &[f32], scratch: &'a mut [f32]) -> &'a [f32] {
    let length = samples.len().min(scratch.len());
    scratch.iter_mut().zip(samples[..length].iter().rev()).for_each(|(to, &from)| *to = from);
    &scratch[..length]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A buzz whose pitch glides from 110 Hz by 30 Hz a second.
    fn voice(rate_hz: u32, samples: usize) -> Vec<i16> {
        let sample = |n: usize| {
            let time = n as f32 / rate_hz as f32;
            let phase = (110.0 + 15.0 * time) * time * std::f32::consts::TAU;
            (1..8).map(|k| (phase * k as f32).sin() / k as f32).sum::<f32>() * 5000.0
        };
        (0..samples).map(|n| sample(n) as i16).collect()
    }

    fn snr_db(reference: &[i16], heard: &[i16]) -> f64 {
        let power = |of: &[i16]| of.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>() + 1.0;
        let error: Vec<i16> = reference.iter().zip(heard).map(|(x, y)| x.saturating_sub(*y)).collect();
        10.0 * (power(reference) / power(&error)).log10()
    }

    /// Conceals `gap_ms` from 100 ms on in frames of 10 ms; gives what was lost and what was made.
    fn concealed(rate_hz: u32, gap_ms: usize, with_future: bool) -> (Vec<i16>, Vec<i16>) {
        let signal = voice(rate_hz, rate_hz as usize / 2);
        let ms = |ms: usize| ms * rate_hz as usize / 1000;
        let (from, to) = (ms(100), ms(100 + gap_ms));
        let mut concealer = Concealer::new(rate_hz);
        let mut made = signal[..from].to_vec();
        while made.len() < to {
            let mut out = vec![0; ms(10)];
            let future = &signal[to..to + concealer.future_len()];
            let bridge = Bridge { gap: to - made.len(), future };
            concealer.conceal(&made, &mut out, with_future.then_some(bridge));
            made.extend(out);
        }
        (signal[from..to].to_vec(), made[from..].to_vec())
    }

    #[test]
    fn a_voice_goes_on_at_its_pitch_and_better_so_when_the_future_is_known() {
        for rate_hz in [8_000, 16_000, 48_000] {
            for gap_ms in [10, 20, 30] {
                let (lost, made) = concealed(rate_hz, gap_ms, true);
                let bridged = snr_db(&lost, &made);
                let (lost, made) = concealed(rate_hz, gap_ms, false);
                let blind = snr_db(&lost, &made);
                assert!(blind > 5.0, "{rate_hz} {gap_ms}: {blind:.1} dB");
                assert!(
                    bridged > 12.0 && bridged > blind,
                    "{rate_hz} {gap_ms}: {bridged:.1} dB, {blind:.1} dB"
                );
            }
        }
    }

    #[test]
    fn without_a_future_it_fades_to_silence() {
        let mut concealer = Concealer::new(8_000);
        let mut signal = voice(8_000, 800);
        let peaks: Vec<u16> = (0..12)
            .map(|_| {
                let mut out = [0; 80];
                concealer.conceal(&signal, &mut out, None);
                signal.extend(out);
                out.iter().map(|sample| sample.unsigned_abs()).max().unwrap_or(0)
            })
            .collect();
        assert!(peaks[..10].windows(2).all(|pair| pair[1] < pair[0]), "{peaks:?}");
        assert!(peaks[0] > 5_000 && peaks[5] > 1_000, "{peaks:?}");
        assert_eq!(peaks[10..], [0, 0]);
        assert!(concealer.is_faded());
        concealer.rest();
        assert!(!concealer.is_faded());
    }

    #[test]
    fn true_sound_is_faded_into_after_a_blind_run_and_left_alone_after_a_bridge() {
        let signal = voice(8_000, 1_200);
        for with_future in [false, true] {
            let mut concealer = Concealer::new(8_000);
            let mut made = signal[..800].to_vec();
            let mut out = [0; 160];
            let bridge = Bridge { gap: 160, future: &signal[960..] };
            concealer.conceal(&made, &mut out, with_future.then_some(bridge));
            made.extend(out);
            let mut real = signal[960..1120].to_vec();
            concealer.recover(&made, &mut real);
            assert_eq!(real == signal[960..1120], with_future);
            assert_eq!(real[40..], signal[1000..1120], "after 5 ms all is as it was sent");
            let step = (i32::from(real[0]) - i32::from(made[959])).abs();
            assert!(step < 4_000, "no click at the joint: {step}");
            assert_eq!(concealer.run(), 0);
        }
    }

    #[test]
    fn any_past_and_any_future_will_do() {
        let mut rng = crate::rng::Rng::from_number(4);
        for round in 0..300 {
            let rate_hz = [8_000, 16_000, 48_000][round % 3];
            let mut concealer = Concealer::new(rate_hz);
            let some = |rng: &mut crate::rng::Rng, most: u64| -> Vec<i16> {
                let loudness = rng.below(16);
                (0..rng.below(most)).map(|_| rng.next_u32() as i16 >> loudness).collect()
            };
            let past = some(&mut rng, 3_000);
            let future = some(&mut rng, 3_000);
            for _ in 0..4 {
                let mut out = vec![1; rng.below(1_000) as usize];
                let gap = out.len() + rng.below(2_500) as usize;
                concealer.conceal(
                    &past,
                    &mut out,
                    (round % 2 == 0).then_some(Bridge { gap, future: &future }),
                );
                concealer.recover(&past, &mut out);
            }
        }
        let mut silent = [1; 160];
        Concealer::new(8_000).conceal(&[0; 400], &mut silent, None);
        assert_eq!(silent, [0; 160]);
        let mut loud = [0; 160];
        Concealer::new(8_000).conceal(&[i16::MAX; 400], &mut loud, None);
        assert!(loud[..80].iter().all(|&sample| sample > 25_000), "it does not wrap");
    }
}
