//! What the bridge counts, for metrics and for whoever wonders how things are.

use super::Bridge;
use super::admission::Refused;
use super::conferencecall::LiveCall;
use super::media::LegState;
use super::resource::ConferenceStatus;
pub use super::rooms::ShardLoad;
use crate::audio::AudioCodec;
use crate::id::{ConferenceId, ConferencecallId};
use crate::plane::LegStats;
use crate::sip;

/// Q.850 causes.
const CAUSES: usize = 128;

/// The bridge at one moment. Counts named `_total` only grow.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gauges {
    /// Conferences by status: starting, progressing, terminating, and terminated a moment ago.
    pub conferences: [usize; 4],
    /// Conferences made since the start.
    pub conferences_total: u64,
    /// Conferencecalls by status: joining, joined, leaving, and leaved a moment ago.
    pub conferencecalls: [usize; 4],
    /// Conferencecalls since the start.
    pub conferencecalls_total: u64,
    /// Those that joined.
    pub joined_total: u64,
    /// Those whose call went over to another conference.
    pub moved_total: u64,
    /// Those that left, by Q.850 cause; causes that never came are left out.
    pub leaved_total: Vec<(u8, u64)>,
    /// Calls refused, by reason; every reason is listed.
    pub refused_total: Vec<(&'static str, u64)>,
    /// Key presses.
    pub digits_total: u64,
    /// The media of calls that are gone, summed up.
    pub past_media: MediaTotals,
    /// Every leg's media quality now.
    pub legs: Vec<LegQuality>,
    /// Every shard's load, as far as orders went out.
    pub shards: Vec<ShardLoad>,
    /// What the SIP endpoint counted.
    pub sip: sip::Counters,
    /// Calls in the SIP endpoint, those that await the answer to a BYE included.
    pub sip_calls: usize,
    /// SIP transactions, lingering ones included.
    pub sip_transactions: usize,
    /// Whether the server is stopping.
    pub draining: bool,
    /// Times a limit on what is kept of the past was hit: ended conferences, leaved conferencecalls,
    /// hashes of ended conferences.
    pub crowded_out_total: [u64; 3],
    /// Transcriptions that are not done.
    pub transcribes: usize,
    /// Transcriptions started, transcripts, and partial ones shown.
    pub transcribes_total: [u64; 3],
    /// Times a shard did not say in time that a leg was closed.
    pub legs_given_up_total: u64,
    /// Flows that are not deleted.
    pub flows: usize,
    /// Flows that run.
    pub activeflows: usize,
    /// Flows that ran or run.
    pub activeflows_total: u64,
    /// Flows that did not run because too many did.
    pub flows_refused_total: u64,
    /// Actions that were run, by how they went: running (always 0), done, failed, skipped, stopped
    /// (always 0).
    pub flow_steps_total: [u64; 5],
    /// Recordings that have not ended.
    pub recordings: usize,
    /// Recordings since the start, and those whose file was not finished in time.
    pub recordings_total: [u64; 2],
}

/// The media quality of one leg.
#[derive(Clone, Debug, PartialEq)]
pub struct LegQuality {
    /// Its conferencecall.
    pub conferencecall: ConferencecallId,
    /// Its conference.
    pub conference: ConferenceId,
    /// Its codec, as in SDP.
    pub codec: &'static str,
    /// Its counters.
    pub stats: LegStats,
}

/// Sums over legs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MediaTotals {
    /// RTP packets received and accepted.
    pub packets_in: u64,
    /// RTP packets sent.
    pub packets_out: u64,
    /// Packets that never came.
    pub lost_in: u64,
    /// Packets that came after their time to play.
    pub late_in: u64,
    /// Packets refused by the latch.
    pub refused_in: u64,
    /// Milliseconds of audio concealed.
    pub concealed_ms: u64,
}

impl MediaTotals {
    /// Adds one leg's counters.
    pub fn add(&mut self, stats: &LegStats) {
        self.packets_in += stats.packets_in;
        self.packets_out += stats.packets_out;
        self.lost_in += stats.lost_in;
        self.late_in += stats.late_in;
        self.refused_in += stats.refused_in;
        self.concealed_ms += stats.concealed_ms;
    }
}

/// The running counts.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) conferences: [usize; 4],
    pub(super) conferences_total: u64,
    pub(super) conferencecalls_total: u64,
    pub(super) joined_total: u64,
    pub(super) moved_total: u64,
    pub(super) digits_total: u64,
    pub(super) legs_given_up_total: u64,
    pub(super) activeflows_total: u64,
    pub(super) flows_refused_total: u64,
    pub(super) flow_steps_total: [u64; 5],
    pub(super) past_media: MediaTotals,
    leaved: [u64; CAUSES],
    refused: [u64; Refused::NAMES.len()],
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            conferences: [0; 4],
            conferences_total: 0,
            conferencecalls_total: 0,
            joined_total: 0,
            moved_total: 0,
            digits_total: 0,
            legs_given_up_total: 0,
            activeflows_total: 0,
            flows_refused_total: 0,
            flow_steps_total: [0; 5],
            past_media: MediaTotals::default(),
            leaved: [0; CAUSES],
            refused: [0; Refused::NAMES.len()],
        }
    }
}

impl Tally {
    pub(super) fn count_refused(&mut self, refused: &Refused) {
        for (name, count) in Refused::NAMES.iter().zip(&mut self.refused) {
            *count += u64::from(*name == refused.name());
        }
    }

    pub(super) fn count_leaved(&mut self, q850: u8) {
        if let Some(count) = self.leaved.get_mut(usize::from(q850)) {
            *count += 1;
        }
    }

    /// A conference changed its status, came or went.
    pub(super) fn move_conference(&mut self, from: Option<ConferenceStatus>, to: Option<ConferenceStatus>) {
        if let Some(from) = from {
            let count = &mut self.conferences[from as usize];
            *count = count.saturating_sub(1);
        }
        if let Some(to) = to {
            self.conferences[to as usize] += 1;
        }
    }

    /// Conferences that have not ended.
    pub(super) fn live_conferences(&self) -> usize {
        self.conferences.iter().take(3).sum()
    }
}

impl Bridge {
    /// The bridge at this moment. Costs a little for every call.
    pub fn gauges(&self) -> Gauges {
        let tally = &self.tally;
        let mut conferencecalls = [0; 4];
        for call in self.calls.iter() {
            conferencecalls[call.resource.status as usize] += 1;
        }
        let causes = (0u8..).zip(tally.leaved).filter(|(_, count)| *count > 0);
        Gauges {
            conferences: tally.conferences,
            conferences_total: tally.conferences_total,
            conferencecalls,
            conferencecalls_total: tally.conferencecalls_total,
            joined_total: tally.joined_total,
            moved_total: tally.moved_total,
            leaved_total: causes.collect(),
            refused_total: Refused::NAMES.into_iter().zip(tally.refused).collect(),
            digits_total: tally.digits_total,
            past_media: tally.past_media,
            legs: self.calls.iter().filter_map(quality).collect(),
            shards: self.shards.loads().to_vec(),
            sip: self.sip.counters().clone(),
            sip_calls: self.sip.calls(),
            sip_transactions: self.sip.transactions(),
            draining: self.draining,
            crowded_out_total: [self.ended.crowded_out(), self.leaved.crowded_out(), self.hashes.forgotten()],
            legs_given_up_total: tally.legs_given_up_total,
            flows: self.flows.len(),
            activeflows: self.executions.len(),
            activeflows_total: tally.activeflows_total,
            flows_refused_total: tally.flows_refused_total,
            flow_steps_total: tally.flow_steps_total,
            recordings: self.recordings.live(),
            recordings_total: self.recordings.totals(),
            transcribes: self.transcribes.live(),
            transcribes_total: [
                self.transcribes.started_total,
                self.transcribes.transcripts_total,
                self.transcribes.partials_total,
            ],
        }
    }
}

fn quality(call: &LiveCall) -> Option<LegQuality> {
    let named = |codec: &AudioCodec| codec.encoding_name() == call.resource.codec;
    matches!(call.leg, LegState::Active(_)).then(|| LegQuality {
        conferencecall: call.resource.id,
        conference: call.resource.conference_id,
        codec: AudioCodec::ALL.iter().find(|codec| named(codec)).map_or("", |codec| codec.encoding_name()),
        stats: call.stats,
    })
}
