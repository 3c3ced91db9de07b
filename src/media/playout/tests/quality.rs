//! How speech comes out of bad networks: the table of jitter × loss, and a guard that a listener
//! would agree with (the real judge, PESQ, runs in the bench).

use super::*;

/// Mean distance of log spectra over frames, in dB.
fn distance_db(reference: &[i16], heard: &[i16], frames: &[usize]) -> f64 {
    let (mut sum, mut count) = (0.0, 0);
    for (reference, heard) in loud(reference, heard, frames) {
        // 20 bands of 200 Hz.
        for band in 0..20 {
            let level = |signal: &[i16]| {
                let total: f64 = (0..4).map(|bin| power_at(signal, band * 4 + bin)).sum();
                10.0 * (total + 1e4).log10()
            };
            sum += (level(reference) - level(heard)).abs();
            count += 1;
        }
    }
    sum / f64::from(count.max(1))
}

/// The power of 160 samples at `bin` × 50 Hz.
fn power_at(signal: &[i16], bin: usize) -> f64 {
    let (mut re, mut im) = (0.0, 0.0);
    for (n, &sample) in signal.iter().enumerate() {
        let (sin, cos) = ((bin * n % 160) as f64 / 160.0 * std::f64::consts::TAU).sin_cos();
        re += f64::from(sample) * cos;
        im += f64::from(sample) * sin;
    }
    re * re + im * im
}

#[test]
fn concealed_speech_is_nearer_to_what_was_lost_than_silence_or_the_last_packet_again() {
    let pcm = speech_after_law();
    for loss_percent in [3, 5, 10] {
        let network = Network { loss_percent, seed: 3, ..Network::default() };
        let outcome = run(&pcm, &network);
        // It settles on one packet held after the first loss; from there on the shift is fixed.
        let settled = pcm.len() / 160 / 4;
        let shift = (0..1200).min_by_key(|&shift| {
            let far_apart =
                |n: usize| u64::from(pcm[n].abs_diff(outcome.heard.get(n + shift).copied().unwrap_or(0)));
            (settled * 160..settled * 160 + 8_000).map(far_apart).sum::<u64>()
        });
        let heard = &outcome.heard[shift.expect("there were some")..];
        let lost: Vec<usize> =
            (settled..pcm.len() / 160 - 1).filter(|&packet| outcome.is_lost[packet]).collect();
        let nothing = vec![0; pcm.len()];
        let again = [&[0; 160], &pcm[..]].concat();
        let distance = [heard, &nothing, &again].map(|heard| distance_db(&pcm, heard, &lost));
        assert!(distance[0] < 0.2 * distance[1], "{loss_percent} %: {distance:.1?} dB");
        let snr = [heard, &nothing, &again].map(|heard| snr_db(&pcm, heard, &lost));
        assert!(snr[0] > snr[1] + 3.0 && snr[0] > snr[2] + 3.0, "{loss_percent} %: {snr:.1?} dB");
    }
}

/// Mean over frames of the signal against its error, in dB, each within −10 and 30.
fn snr_db(reference: &[i16], heard: &[i16], frames: &[usize]) -> f64 {
    let (mut sum, mut count) = (0.0, 0);
    for (reference, heard) in loud(reference, heard, frames) {
        let power = |of: &mut dyn Iterator<Item = f64>| of.map(|x| x * x).sum::<f64>() + 1.0;
        let signal = power(&mut reference.iter().map(|&x| f64::from(x)));
        let error = power(&mut reference.iter().zip(heard).map(|(&x, &y)| f64::from(x) - f64::from(y)));
        sum += (10.0 * (signal / error).log10()).clamp(-10.0, 30.0);
        count += 1;
    }
    sum / f64::from(count.max(1))
}

/// The frames that are no pause, as they were and as they are heard.
fn loud<'a>(
    reference: &'a [i16],
    heard: &'a [i16],
    frames: &'a [usize],
) -> impl Iterator<Item = (&'a [i16], &'a [i16])> {
    let pairs = frames.iter().filter_map(move |frame| {
        let range = frame * 160..frame * 160 + 160;
        Some((reference.get(range.clone())?, heard.get(range)?))
    });
    pairs.filter(|(reference, _)| mean_square(reference) >= 10_000)
}

/// The fixture as G.711 leaves it.
fn speech_after_law() -> Vec<i16> {
    let pcm = network::speech();
    let mut again = vec![0; pcm.len()];
    g711::decode_ulaw(&payload_of(AudioCodec::Pcmu, &pcm), &mut again);
    again
}

#[test]
fn the_table_of_jitter_and_loss_is_as_it_was() {
    let pcm = network::speech();
    let mut table =
        String::from("jitter loss | lost late concealed_ms accelerated_ms expanded_ms mean_delay_ms\n");
    for jitter_ms in [0, 20, 40, 80, 120] {
        for loss_percent in [0, 3, 10] {
            let outcome = run(&pcm, &Network { jitter_ms, loss_percent, seed: 9, ..Network::default() });
            let stats = outcome.playout.stats();
            table += &format!(
                "{jitter_ms:6} {loss_percent:4} | {:4} {:4} {:12} {:14} {:11} {:13.0}\n",
                stats.lost,
                stats.late,
                stats.concealed_ms,
                stats.accelerated_ms,
                stats.expanded_ms,
                outcome.mean_delay_ms
            );
        }
    }
    let expected = include_str!("table.txt");
    assert!(table == expected, "was:\n{expected}is:\n{table}");
}
