//! Which numbers of which part are metrics, and what they are called.

mod bridge;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::reload::Reloads;
use crate::control::Control;
use crate::errand::Errands;
use crate::net::clock::Clock;
use crate::net::thread::{MediaThread, ThreadGauges};
use crate::net::transport::{Counters, Transports};
use crate::obs::{Exposition, Histogram, Metrics, log};
use crate::record::{self, Recorder, storage};
use crate::speech::recogniser::counters as speech_counters;
use crate::speech::recogniser::service::Recogniser;
use crate::store::Store;
use crate::webhook;

/// Registers every part with the metrics; the API adds its own and the store's.
pub(super) fn register(
    metrics: &Metrics,
    control: &Control,
    transports: &Transports,
    media: &[Arc<MediaThread>],
) {
    let counters = transports.counters().clone();
    metrics.register(move |exposition| transport(exposition, &counters));
    let threads: Vec<Arc<ThreadGauges>> = media.iter().map(|thread| thread.gauges.clone()).collect();
    metrics.register(move |exposition| media_threads(exposition, &threads));
    let control = control.clone();
    metrics.register(move |exposition| {
        let draining = if control.is_draining() { 1.0 } else { 0.0 };
        bridge::write(exposition, &control.gauges());
        exposition.gauge("confab_draining", "1 while no new calls are taken.", draining);
        exposition.counter(
            "confab_log_lines_dropped_total",
            "Log lines lost to a slow reader.",
            log::dropped(),
        );
    });
}

/// Registers the webhooks.
pub(super) fn register_webhooks(
    metrics: &Metrics,
    store: &Store,
    counters: &Arc<webhook::Counters>,
    clock: Clock,
) {
    let (store, counters) = (store.clone(), counters.clone());
    metrics.register(move |exposition| webhooks(exposition, &store, &counters, &clock));
}

/// The webhooks.
fn webhooks(exposition: &mut Exposition, store: &Store, counters: &webhook::Counters, clock: &Clock) {
    let stored = store.counters();
    exposition.counters(
        "confab_webhook_deliveries_total",
        "Deliveries of events to webhooks, by how they went.",
        &[(&[("result", "told")], read(&counters.told)), (&[("result", "failed")], read(&counters.failed))],
    );
    exposition.counters(
        "confab_webhook_given_up_total",
        "Events that are not told any more: dead letters, by age or by a full outbox, and those nobody wants.",
        &[
            (&[("reason", "age")], stored.webhooks_dead.saturating_sub(stored.outbox_overflowed)),
            (&[("reason", "outbox_full")], stored.outbox_overflowed),
            (&[("reason", "no_webhook")], read(&counters.unwanted)),
        ],
    );
    exposition.counter(
        "confab_webhook_dead_letters_trimmed_total",
        "Dead letters deleted by a retention limit.",
        stored.failures_trimmed,
    );
    exposition.gauge(
        "confab_webhook_lag_seconds",
        "Age of the oldest event that is yet to be told.",
        counters.lag(clock.wall()).as_secs_f64(),
    );
    let gauges: [(&str, &str, u64); 4] = [
        ("confab_webhook_outbox_events", "Events yet to be told.", store.outbox_rows_total()),
        ("confab_webhook_conferences", "Conferences with events yet to be told.", read(&counters.lanes)),
        ("confab_webhook_in_flight", "Deliveries under way.", read(&counters.in_flight)),
        ("confab_webhook_receivers_broken", "Receivers that failed again and again.", read(&counters.broken)),
    ];
    for (name, help, value) in gauges {
        exposition.gauge(name, help, value as f64);
    }
}

/// Registers what flows have done outside.
pub(super) fn register_errands(metrics: &Metrics, errands: &Errands) {
    let errands = errands.clone();
    metrics.register(move |exposition| {
        let counted = errands.counters();
        exposition.counters(
            "confab_flow_errands_total",
            "HTTP requests, prompts and spoken texts of flows, by how they went.",
            &[
                (&[("result", "done")], counted.done),
                (&[("result", "failed")], counted.failed),
                (&[("result", "refused")], counted.refused),
                (&[("result", "over_share")], counted.over_share),
            ],
        );
    });
}

/// Adds the recorder.
pub(super) fn register_recorder(metrics: &Metrics, recorder: &Recorder) {
    let counters = recorder.counters.clone();
    metrics.register(move |exposition| recordings(exposition, &counters));
}

/// What the recorder counted.
fn recordings(exposition: &mut Exposition, counters: &record::Counters) {
    exposition.gauge("confab_recordings_active", "Recordings being written.", read(&counters.active) as f64);
    let counted = [
        ("confab_recordings_bytes_total", "Bytes of finished recordings.", &counters.bytes),
        (
            "confab_recordings_lost_ticks_total",
            "Ticks of 20 ms that recordings have as silence because they were read too late.",
            &counters.lost_ticks,
        ),
        (
            "confab_recordings_write_failures_total",
            "Recordings that ended because a file could not be written.",
            &counters.write_failures,
        ),
        (
            "confab_recordings_tracks_refused_total",
            "Callers without a track of their own because there were too many.",
            &counters.tracks_refused,
        ),
        (
            "confab_recordings_orders_dropped_total",
            "Orders that the recorder was too slow to take.",
            &counters.orders_dropped,
        ),
    ];
    for (name, help, counter) in counted {
        exposition.counter(name, help, read(counter));
    }
}

/// Adds the storage that recordings are moved to.
pub(super) fn register_storage(metrics: &Metrics, counters: &Arc<storage::Counters>) {
    let counters = counters.clone();
    metrics.register(move |exposition| stored(exposition, &counters));
}

/// What the owner of that storage counted.
fn stored(exposition: &mut Exposition, counters: &storage::Counters) {
    let works = if counters.fails.load(Ordering::Relaxed) { 0.0 } else { 1.0 };
    exposition.gauge("confab_storage_works", "0 while the storage of recordings fails.", works);
    let gauges = [
        (
            "confab_storage_files_waiting",
            "Files of recordings yet to be uploaded.",
            &counters.uploads_waiting,
        ),
        ("confab_storage_bytes_waiting", "Bytes of recordings yet to be uploaded.", &counters.bytes_waiting),
        (
            "confab_storage_deletions_waiting",
            "Files of recordings yet to be deleted from storage.",
            &counters.deletions_waiting,
        ),
        ("confab_storage_files_under_way", "Files of recordings being moved.", &counters.under_way),
    ];
    for (name, help, value) in gauges {
        exposition.gauge(name, help, read(value) as f64);
    }
    let counted = [
        ("confab_storage_files_uploaded_total", "Files of recordings uploaded.", &counters.uploaded),
        ("confab_storage_bytes_uploaded_total", "Bytes of recordings uploaded.", &counters.uploaded_bytes),
        (
            "confab_storage_files_deleted_total",
            "Files of recordings deleted from storage.",
            &counters.deleted,
        ),
        ("confab_storage_failures_total", "Tries to move a file that failed.", &counters.failures),
        (
            "confab_storage_files_lost_total",
            "Files of recordings that are neither in the data folder nor in storage.",
            &counters.lost,
        ),
    ];
    for (name, help, counter) in counted {
        exposition.counter(name, help, read(counter));
    }
}

/// Adds the recogniser.
pub(super) fn register_recogniser(metrics: &Metrics, recogniser: &Recogniser) {
    let counters = recogniser.counters.clone();
    metrics.register(move |exposition| speech(exposition, &counters));
}

/// What the recogniser counted.
fn speech(exposition: &mut Exposition, counters: &speech_counters::Counters) {
    let gauges = [
        ("confab_transcribe_callers", "Callers being transcribed.", &counters.callers),
        ("confab_transcribe_talks", "Connections to a WebSocket recogniser.", &counters.talks),
        (
            "confab_transcribe_delay_milliseconds",
            "From the end of the last utterance to its text.",
            &counters.delay_ms,
        ),
        ("confab_transcribe_waiting", "Whole utterances that wait for the recogniser.", &counters.waiting),
    ];
    for (name, help, value) in gauges {
        exposition.gauge(name, help, read(value) as f64);
    }
    exposition.counters(
        "confab_transcribe_utterances_total",
        "Utterances, by what became of them.",
        &[
            (&[("outcome", "recognised")], read(&counters.utterances)),
            (&[("outcome", "partial")], read(&counters.partials)),
            (&[("outcome", "partial_skipped")], read(&counters.partials_skipped)),
            (&[("outcome", "dropped")], read(&counters.utterances_dropped)),
            (&[("outcome", "failed")], read(&counters.failures)),
        ],
    );
    let counted = [
        ("confab_transcribe_audio_milliseconds_total", "Audio recognised.", &counters.audio_ms),
        ("confab_transcribe_busy_milliseconds_total", "Time the recogniser took for it.", &counters.busy_ms),
        (
            "confab_transcribe_connection_failures_total",
            "Connections to a WebSocket recogniser that were not made or broke.",
            &counters.connection_failures,
        ),
        (
            "confab_transcribe_lost_ticks_total",
            "Ticks of 20 ms that were not heard because they were read too late.",
            &counters.lost_ticks,
        ),
        (
            "confab_transcribe_callers_refused_total",
            "Callers not transcribed because there were too many.",
            &counters.callers_refused,
        ),
        (
            "confab_transcribe_orders_dropped_total",
            "Orders that the recogniser was too slow to take.",
            &counters.orders_dropped,
        ),
    ];
    for (name, help, counter) in counted {
        exposition.counter(name, help, read(counter));
    }
}

/// Adds how often the configuration was read anew.
pub(super) fn register_reloads(metrics: &Metrics, reloads: &Arc<Reloads>) {
    let reloads = reloads.clone();
    metrics.register(move |exposition| {
        exposition.counters(
            "confab_config_reloads_total",
            "Times the configuration was read anew, by whether it could be taken.",
            &[(&[("result", "ok")], read(&reloads.ok)), (&[("result", "failed")], read(&reloads.failed))],
        );
    });
}

/// A counter's value.
fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// The SIP transports.
fn transport(exposition: &mut Exposition, counters: &Counters) {
    let (udp, tcp) = (("transport", "udp"), ("transport", "tcp"));
    exposition.counters(
        "confab_sip_messages_received_total",
        "SIP messages received.",
        &[(&[udp], read(&counters.udp_received)), (&[tcp], read(&counters.tcp_received))],
    );
    exposition.counters(
        "confab_sip_messages_sent_total",
        "SIP messages sent.",
        &[(&[udp], read(&counters.udp_sent)), (&[tcp], read(&counters.tcp_sent))],
    );
    exposition.counters(
        "confab_sip_messages_dropped_total",
        "SIP messages dropped by a transport, by reason.",
        &[
            (&[udp, ("reason", "inbox_full")], read(&counters.udp_inbox_full)),
            (&[udp, ("reason", "send_full")], read(&counters.udp_send_full)),
            (&[udp, ("reason", "send_error")], read(&counters.udp_send_errors)),
            (&[tcp, ("reason", "orders_full")], read(&counters.tcp_orders_full)),
        ],
    );
    exposition.gauge("confab_sip_connections", "TCP connections open.", read(&counters.tcp_open) as f64);
    exposition.counters(
        "confab_sip_connections_made_total",
        "TCP connections made, by who made them.",
        &[
            (&[("by", "peer")], read(&counters.tcp_accepted)),
            (&[("by", "us")], read(&counters.tcp_connected)),
        ],
    );
    exposition.counters(
        "confab_sip_connections_failed_total",
        "TCP connections refused, closed or not made by us, by reason.",
        &[
            (&[("reason", "limit_total")], read(&counters.tcp_refused_total)),
            (&[("reason", "limit_per_source")], read(&counters.tcp_refused_source)),
            (&[("reason", "not_sip")], read(&counters.tcp_framing_errors)),
            (&[("reason", "slow_message")], read(&counters.tcp_slow_writers)),
            (&[("reason", "slow_reader")], read(&counters.tcp_slow_readers)),
            (&[("reason", "idle")], read(&counters.tcp_idle)),
            (&[("reason", "connect_failed")], read(&counters.tcp_connect_failed)),
        ],
    );
}

/// One counter of every media thread.
fn per_thread(exposition: &mut Exposition, name: &str, help: &str, values: &[u64]) {
    let names: Vec<String> = (0..values.len()).map(|index| index.to_string()).collect();
    let labels: Vec<[(&str, &str); 1]> = names.iter().map(|name| [("thread", name.as_str())]).collect();
    let samples: Vec<(&[(&str, &str)], u64)> =
        labels.iter().zip(values).map(|(label, value)| (label.as_slice(), *value)).collect();
    exposition.counters(name, help, &samples);
}

/// One of a media thread's counters.
type Pick = fn(&ThreadGauges) -> &AtomicU64;

/// The media threads.
fn media_threads(exposition: &mut Exposition, threads: &[Arc<ThreadGauges>]) {
    let of = |pick: Pick| -> Vec<u64> { threads.iter().map(|gauges| read(pick(gauges))).collect() };
    let legs = of(|gauges| &gauges.legs).iter().sum::<u64>();
    let rooms = of(|gauges| &gauges.rooms).iter().sum::<u64>();
    exposition.gauge("confab_media_legs", "Calls whose audio is handled.", legs as f64);
    exposition.gauge("confab_media_rooms", "Rooms that have a call in them.", rooms as f64);
    let counters: [(&str, &str, Pick); 13] = [
        ("confab_media_ticks_total", "Slots ticked.", |gauges| &gauges.ticks),
        ("confab_media_overruns_total", "Slots done more than a tick late.", |gauges| &gauges.overruns),
        ("confab_media_skipped_total", "Slots given up because the thread was stopped too long.", |gauges| {
            &gauges.skipped
        }),
        ("confab_media_datagrams_received_total", "RTP and RTCP datagrams received.", |gauges| {
            &gauges.received
        }),
        ("confab_media_datagrams_sent_total", "RTP and RTCP datagrams sent.", |gauges| &gauges.sent),
        ("confab_media_send_failed_total", "Datagrams that could not be sent.", |gauges| &gauges.send_failed),
        (
            "confab_media_receive_dropped_total",
            "Datagrams too long, of third parties or of ended calls.",
            |gauges| &gauges.receive_dropped,
        ),
        ("confab_media_digits_dropped_total", "Digits lost because signalling was too slow.", |gauges| {
            &gauges.digits_dropped
        }),
        (
            "confab_media_express_received_total",
            "Of the datagrams received, those by the express path.",
            |gauges| &gauges.express_received,
        ),
        ("confab_media_express_sent_total", "Of the datagrams sent, those by the express path.", |gauges| {
            &gauges.express_sent
        }),
        (
            "confab_media_express_lost_total",
            "Datagrams lost because the express path had no frame left.",
            |gauges| &gauges.express_lost,
        ),
        (
            "confab_media_taps_refused_total",
            "Recordings, transcriptions and streams refused because their room had too many.",
            |gauges| &gauges.taps_refused,
        ),
        (
            "confab_media_marks_dropped_total",
            "Marks of who joined, spoke or left, lost because nobody read them.",
            |gauges| &gauges.marks_dropped,
        ),
    ];
    for (name, help, pick) in counters {
        per_thread(exposition, name, help, &of(pick));
    }
    let slots: Vec<&Histogram> = threads.iter().map(|gauges| &gauges.done).collect();
    exposition.histogram(
        "confab_media_slot_done_seconds",
        "How long after its deadline the work of a slot was done, all threads together.",
        &Histogram::read_all(&slots),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_says_whose_it_is() {
        let mut exposition = Exposition::default();
        transport(&mut exposition, &Counters::default());
        media_threads(&mut exposition, &[Arc::new(ThreadGauges::default())]);
        let text = exposition.into_text();
        assert!(text.contains("confab_media_ticks_total{thread=\"0\"} 0\n"), "{text}");
        assert!(text.contains("confab_media_slot_done_seconds_bucket{le=\"+Inf\"} 0\n"), "{text}");
        for line in text.lines() {
            let name = line.trim_start_matches("# HELP ").trim_start_matches("# TYPE ");
            assert!(name.starts_with("confab_"), "{line}");
        }
    }
}
