//! Media streams: somebody outside who hears a conference and is heard in it, without a call. It is
//! nobody's conferencecall; it ends with the conference at the latest.

use super::command::{Refusal, Reply};
use super::resource::ConferenceStatus;
use super::{Bridge, Level, Output};
use crate::id::{ConferenceId, CustomerId, LegId};
use crate::plane::ShardCommand;
use crate::plane::feed::Feed;
use crate::plane::tap::{Tap, TapParts};

/// Streams of one conference at once.
pub const STREAMS_PER_CONFERENCE_MAX: usize = 16;
/// Words of a stream's tap: four seconds at 8 kHz. A client that is further behind misses some.
const STREAM_WORDS: usize = 1 << 14;

/// The outer ends of a media stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamEnds {
    /// Its name in the room.
    pub leg: LegId,
    /// What is written here is heard in the room.
    pub feed: Feed,
    /// The room's mix without what was written; closed when the stream is over.
    pub tap: Tap,
}

impl Bridge {
    pub(super) fn open_stream(&mut self, whose: (CustomerId, ConferenceId)) -> Result<Reply, Refusal> {
        if self.draining {
            return Err(Refusal::Draining);
        }
        let conference = self.owned(whose)?;
        if conference.resource.status != ConferenceStatus::Progressing {
            return Err(Refusal::WrongStatus(conference.status_name()));
        }
        if conference.streams.len() >= STREAMS_PER_CONFERENCE_MAX {
            return Err(Refusal::Limit("media streams of one conference"));
        }
        let max_speakers = self.settings.max_speakers;
        let conference = self.conferences.get_mut(&whose.1).ok_or(Refusal::NotFound)?;
        let room = conference.open_room(&mut self.shards, &mut self.journal, max_speakers);
        let (leg, tap) = (self.shards.name_source(), self.shards.add_tap(room));
        let (shard, room) = (room.shard, room.room);
        conference.streams.insert(leg);
        let parts = TapParts { mix: true, ..TapParts::default() };
        let ends = StreamEnds { leg, feed: Feed::new(), tap: Tap::new(tap, parts, STREAM_WORDS) };
        let (feed, tap) = (ends.feed.clone(), ends.tap.clone());
        let command = ShardCommand::AddSource { room, leg, feed, tap };
        self.journal.push(Output::Shard { shard, command });
        self.journal.note(Level::Info, whose.1, "a media stream begins".to_owned());
        Ok(Reply::Stream(Box::new(ends)))
    }

    pub(super) fn close_stream(
        &mut self,
        whose: (CustomerId, ConferenceId),
        leg: LegId,
    ) -> Result<Reply, Refusal> {
        self.owned(whose)?;
        self.end_stream(whose.1, leg);
        self.reply_conference(whose.1)
    }

    /// Ends the streams of a conference.
    pub(super) fn end_streams_of(&mut self, conference: ConferenceId) {
        let streams = self.conferences.get(&conference).map(|of| of.streams.clone()).unwrap_or_default();
        for leg in streams {
            self.end_stream(conference, leg);
        }
    }

    /// Ends all streams.
    pub(super) fn end_all_streams(&mut self) {
        let streaming = self.conferences.values().filter(|of| !of.streams.is_empty());
        let ids: Vec<ConferenceId> = streaming.map(|of| of.resource.id).collect();
        for id in ids {
            self.end_streams_of(id);
        }
    }

    fn end_stream(&mut self, id: ConferenceId, leg: LegId) {
        let Some(conference) = self.conferences.get_mut(&id) else { return };
        if !conference.streams.remove(&leg) {
            return;
        }
        if let Some(room) = conference.room.as_mut() {
            let command = ShardCommand::RemoveSource { room: room.room, leg };
            self.journal.push(Output::Shard { shard: room.shard, command });
            self.shards.remove_tap(room);
        }
        self.close_room_if_unused(id);
        self.journal.note(Level::Info, id, "a media stream ends".to_owned());
    }
}
