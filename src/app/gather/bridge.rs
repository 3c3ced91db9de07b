//! The bridge's gauges as metrics: conferences, calls, why they were refused and why they ended, SIP,
//! and the sound of every leg.

use crate::bridge::{Gauges, LegQuality};
use crate::obs::Exposition;
use crate::sip::{self, DropReason};

/// Legs that have metrics of their own; of more, only the sums are told, and how many are left out.
pub(super) const LEGS_SHOWN_MAX: usize = 2_000;
/// Statuses of a conference, in the order of its gauges.
const CONFERENCE_STATUSES: [&str; 4] = ["starting", "progressing", "terminating", "terminated"];
/// Statuses of a conferencecall, in the order of its gauges.
const CALL_STATUSES: [&str; 4] = ["joining", "joined", "leaving", "leaved"];

/// Writes all of it.
pub(super) fn write(exposition: &mut Exposition, gauges: &Gauges) {
    conferences(exposition, gauges);
    signalling(exposition, &gauges.sip);
    exposition.gauge(
        "confab_sip_calls",
        "Calls in the SIP endpoint, those ending included.",
        gauges.sip_calls as f64,
    );
    exposition.gauge(
        "confab_sip_transactions",
        "SIP transactions, those lingering included.",
        gauges.sip_transactions as f64,
    );
    flows(exposition, gauges);
    let [started, transcripts, partials] = gauges.transcribes_total;
    exposition.gauge("confab_transcribes", "Transcriptions that are not done.", gauges.transcribes as f64);
    exposition.counter("confab_transcribes_total", "Transcriptions started.", started);
    exposition.counter("confab_transcripts_total", "Transcripts.", transcripts);
    exposition.counter("confab_transcripts_partial_total", "Partial transcripts shown.", partials);
    sound(exposition, gauges);
}

/// Flows and what they ran.
fn flows(exposition: &mut Exposition, gauges: &Gauges) {
    exposition.gauge("confab_flows", "Flows that are not deleted.", gauges.flows as f64);
    exposition.gauge("confab_activeflows", "Flows that run.", gauges.activeflows as f64);
    exposition.counter("confab_activeflows_total", "Flows that ran or run.", gauges.activeflows_total);
    exposition.counter(
        "confab_activeflows_refused_total",
        "Flows that did not run because too many did.",
        gauges.flows_refused_total,
    );
    let [_, done, failed, skipped, _] = gauges.flow_steps_total;
    by_label(
        exposition,
        "confab_flow_actions_total",
        "Actions of flows that were run, by how they went.",
        "result",
        &[("done", done), ("failed", failed), ("skipped", skipped)],
    );
}

/// A gauge for each status.
fn by_status(exposition: &mut Exposition, name: &str, help: &str, statuses: &[&str; 4], counts: &[usize; 4]) {
    let labels = statuses.map(|status| [("status", status)]);
    let samples: Vec<(&[(&str, &str)], f64)> =
        labels.iter().zip(counts).map(|(label, count)| (label.as_slice(), *count as f64)).collect();
    exposition.gauges(name, help, &samples);
}

/// A counter for each value of one label.
fn by_label(exposition: &mut Exposition, name: &str, help: &str, label: &str, counts: &[(&str, u64)]) {
    let labels: Vec<[(&str, &str); 1]> = counts.iter().map(|(value, _)| [(label, *value)]).collect();
    let samples: Vec<(&[(&str, &str)], u64)> =
        labels.iter().zip(counts).map(|(label, (_, count))| (label.as_slice(), *count)).collect();
    exposition.counters(name, help, &samples);
}

/// Conferences and the calls in them.
fn conferences(exposition: &mut Exposition, gauges: &Gauges) {
    by_status(
        exposition,
        "confab_conferences",
        "Conferences held, by status.",
        &CONFERENCE_STATUSES,
        &gauges.conferences,
    );
    by_status(
        exposition,
        "confab_conferencecalls",
        "Conferencecalls held, by status.",
        &CALL_STATUSES,
        &gauges.conferencecalls,
    );
    exposition.counter("confab_conferences_total", "Conferences made.", gauges.conferences_total);
    exposition.counter("confab_conferencecalls_total", "Calls answered.", gauges.conferencecalls_total);
    exposition.counter(
        "confab_conferencecalls_joined_total",
        "Calls that joined a conference.",
        gauges.joined_total,
    );
    exposition.counter(
        "confab_conferencecalls_moved_total",
        "Calls that a flow took over to another conference.",
        gauges.moved_total,
    );
    let causes: Vec<(String, u64)> =
        gauges.leaved_total.iter().map(|(cause, count)| (cause.to_string(), *count)).collect();
    let causes: Vec<(&str, u64)> = causes.iter().map(|(cause, count)| (cause.as_str(), *count)).collect();
    by_label(
        exposition,
        "confab_conferencecalls_leaved_total",
        "Calls that left, by Q.850 cause.",
        "cause",
        &causes,
    );
    by_label(
        exposition,
        "confab_calls_refused_total",
        "Calls refused, by reason.",
        "reason",
        &gauges.refused_total,
    );
    exposition.counter("confab_digits_total", "Keys pressed by callers.", gauges.digits_total);
    let [conferences, calls, hashes] = gauges.crowded_out_total;
    by_label(
        exposition,
        "confab_memory_crowded_out_total",
        "Times something past was forgotten early because a limit was reached.",
        "what",
        &[("ended_conferences", conferences), ("leaved_calls", calls), ("ended_hashes", hashes)],
    );
    exposition.counter(
        "confab_media_legs_given_up_total",
        "Times a media thread did not say in time that a call's audio had ended.",
        gauges.legs_given_up_total,
    );
}

/// What the SIP endpoint counted.
fn signalling(exposition: &mut Exposition, sip: &sip::Counters) {
    by_label(
        exposition,
        "confab_sip_parsed_total",
        "SIP messages that parsed, by kind.",
        "kind",
        &[("request", sip.requests), ("response", sip.responses), ("keep_alive", sip.keep_alives)],
    );
    by_label(
        exposition,
        "confab_sip_refused_total",
        "SIP requests that the endpoint refused by itself, by reason.",
        "reason",
        &[
            ("malformed", sip.malformed),
            ("merged", sip.merged),
            ("limit_transactions", sip.limit_transactions),
            ("limit_source", sip.limit_source),
            ("limit_calls", sip.limit_dialogs),
            ("shed", sip.shed),
        ],
    );
    let dropped = DropReason::ALL.map(|(reason, name)| (name, sip.dropped(reason)));
    by_label(
        exposition,
        "confab_sip_dropped_total",
        "SIP messages dropped without an answer, by reason.",
        "reason",
        &dropped,
    );
    exposition.counter(
        "confab_sip_retransmissions_total",
        "Messages of ours sent again.",
        sip.retransmissions,
    );
    exposition.counter(
        "confab_sip_absorbed_total",
        "Requests that came again and were absorbed.",
        sip.absorbed,
    );
    exposition.counter("confab_sip_timeouts_total", "SIP transactions that timed out.", sip.timeouts);
}

/// The sound of all legs together, and of each.
fn sound(exposition: &mut Exposition, gauges: &Gauges) {
    let mut total = gauges.past_media;
    gauges.legs.iter().for_each(|leg| total.add(&leg.stats));
    exposition.counter("confab_rtp_received_total", "RTP packets received and accepted.", total.packets_in);
    exposition.counter("confab_rtp_sent_total", "RTP packets sent.", total.packets_out);
    by_label(
        exposition,
        "confab_rtp_bad_total",
        "RTP packets that did not help: never came, came too late, or came from a third party.",
        "why",
        &[("lost", total.lost_in), ("late", total.late_in), ("refused", total.refused_in)],
    );
    exposition.counter(
        "confab_rtp_concealed_ms_total",
        "Milliseconds of sound made up for lost packets.",
        total.concealed_ms,
    );

    let shown: Vec<Named<'_>> = gauges.legs.iter().take(LEGS_SHOWN_MAX).map(Named::new).collect();
    let left_out = gauges.legs.len() - shown.len();
    exposition.gauge(
        "confab_legs_left_out",
        "Calls beyond the limit of those with metrics of their own.",
        left_out as f64,
    );
    each(
        exposition,
        "confab_leg_buffer_delay_seconds",
        "Delay that the jitter buffer adds now.",
        &shown,
        |leg| Some(leg.stats.buffer_delay.as_secs_f64()),
    );
    each(exposition, "confab_leg_jitter_seconds", "Interarrival jitter (RFC 3550).", &shown, |leg| {
        Some(leg.stats.jitter.as_secs_f64())
    });
    each(
        exposition,
        "confab_leg_round_trip_seconds",
        "Round trip by RTCP, where the peer reports.",
        &shown,
        |leg| leg.stats.round_trip.map(|round_trip| round_trip.as_secs_f64()),
    );
    each(
        exposition,
        "confab_leg_loss_in_ratio",
        "Packets that never came, of those expected.",
        &shown,
        |leg| {
            let expected = leg.stats.packets_in + leg.stats.lost_in;
            (expected > 0).then(|| leg.stats.lost_in as f64 / expected as f64)
        },
    );
    each(exposition, "confab_leg_loss_out_ratio", "Loss the peer reports of what we send.", &shown, |leg| {
        leg.stats.loss_out.map(f64::from)
    });
    each(
        exposition,
        "confab_leg_mos",
        "Estimated listening quality of what we receive, 1 to 4.5.",
        &shown,
        |leg| Some(f64::from(leg.stats.mos_in)),
    );
}

/// A leg and its labels' texts.
struct Named<'a> {
    leg: &'a LegQuality,
    conferencecall: String,
    conference: String,
}

impl<'a> Named<'a> {
    fn new(leg: &'a LegQuality) -> Self {
        Self { leg, conferencecall: leg.conferencecall.to_string(), conference: leg.conference.to_string() }
    }

    fn labels(&self) -> [(&str, &str); 3] {
        [
            ("conference", &self.conference),
            ("conferencecall", &self.conferencecall),
            ("codec", self.leg.codec),
        ]
    }
}

/// One gauge of every leg that has the value.
fn each(
    exposition: &mut Exposition,
    name: &str,
    help: &str,
    legs: &[Named<'_>],
    value: impl Fn(&LegQuality) -> Option<f64>,
) {
    let known: Vec<([(&str, &str); 3], f64)> =
        legs.iter().filter_map(|named| Some((named.labels(), value(named.leg)?))).collect();
    let samples: Vec<(&[(&str, &str)], f64)> =
        known.iter().map(|(labels, value)| (labels.as_slice(), *value)).collect();
    exposition.gauges(name, help, &samples);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{ConferenceId, ConferencecallId};
    use crate::plane::LegStats;
    use crate::time::Duration;

    fn leg() -> LegQuality {
        LegQuality {
            conferencecall: ConferencecallId::NIL,
            conference: ConferenceId::NIL,
            codec: "PCMU",
            stats: LegStats {
                packets_in: 99,
                lost_in: 1,
                buffer_delay: Duration::from_millis(40),
                ..LegStats::default()
            },
        }
    }

    fn text(gauges: &Gauges) -> String {
        let mut exposition = Exposition::default();
        write(&mut exposition, gauges);
        exposition.into_text()
    }

    #[test]
    fn every_leg_tells_its_delay_and_loss_and_unknown_values_are_left_out() {
        let gauges = Gauges { legs: vec![leg()], conferences: [0, 3, 0, 1], ..Gauges::default() };
        let text = text(&gauges);
        let nil = "00000000-0000-0000-0000-000000000000";
        let labels = format!("{{conference=\"{nil}\",conferencecall=\"{nil}\",codec=\"PCMU\"}}");
        assert!(text.contains(&format!("confab_leg_buffer_delay_seconds{labels} 0.04\n")), "{text}");
        assert!(text.contains(&format!("confab_leg_loss_in_ratio{labels} 0.01\n")), "{text}");
        assert!(!text.contains("confab_leg_round_trip_seconds{"), "{text}");
        assert!(text.contains("confab_conferences{status=\"progressing\"} 3\n"), "{text}");
    }

    #[test]
    fn sums_hold_for_calls_that_are_gone_too() {
        let mut gauges = Gauges { legs: vec![leg()], leaved_total: vec![(16, 2)], ..Gauges::default() };
        gauges.past_media.packets_in = 1;
        let text = text(&gauges);
        assert!(text.contains("confab_rtp_received_total 100\n"), "{text}");
        assert!(text.contains("confab_conferencecalls_leaved_total{cause=\"16\"} 2\n"), "{text}");
    }

    #[test]
    fn legs_beyond_the_limit_are_counted_not_listed() {
        let gauges = Gauges { legs: vec![leg(); LEGS_SHOWN_MAX + 3], ..Gauges::default() };
        let text = text(&gauges);
        assert!(text.contains("confab_legs_left_out 3\n"), "{text}");
        assert_eq!(text.matches("confab_leg_mos{").count(), LEGS_SHOWN_MAX);
    }
}
