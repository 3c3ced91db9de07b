//! What goes into a [`Bridge`](super::Bridge) and what comes out of it.

use bytes::Bytes;

use super::command::{Command, Reply};
use super::event::Change;
use super::flow::outside::{Errand, ErrandResult};
use super::recording::{RecordOrder, RecordReport};
use super::settings::Settings;
use super::transcribing::{PartialTranscript, SpeechOrder, SpeechReport};
use crate::id::{ConferenceId, ConferencecallId, CustomerId};
use crate::plane::{ShardCommand, ShardIndex, ShardReport};
use crate::sip;

/// One thing that happened outside.
#[derive(Clone, Debug)]
pub enum Input {
    /// A SIP message: a datagram, or one framed out of a stream.
    Sip {
        /// By which it came.
        flow: sip::Flow,
        /// The message.
        bytes: Bytes,
    },
    /// A connection is gone, or could not be made.
    FlowClosed {
        /// Which.
        flow: sip::Flow,
    },
    /// A customer asks for something; answered by one [`Output::Reply`] with the same ticket.
    Command {
        /// Names the answer.
        ticket: u64,
        /// What is asked.
        command: Command,
    },
    /// News of a shard.
    Report(ShardReport),
    /// What came of an [`Output::Errand`].
    Errand {
        /// Names the errand.
        ticket: u64,
        /// What came of it.
        result: ErrandResult,
    },
    /// News of the one who writes recordings.
    Recorded(RecordReport),
    /// News of the recogniser.
    Speech(SpeechReport),
    /// Other settings hold from now on.
    Settings(Box<Settings>),
    /// [`Bridge::next_timeout`](super::Bridge::next_timeout) has come.
    Timeout,
    /// Take no new calls and end all; [`Output::Drained`] tells when it is done.
    Drain,
}

/// One thing to do outside, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Send a SIP message.
    Send(sip::Transmit),
    /// Order a shard to change.
    Shard {
        /// Which.
        shard: ShardIndex,
        /// What.
        command: ShardCommand,
    },
    /// Order the one who writes recordings. A leg is named before the shard's order that adds it.
    Record(RecordOrder),
    /// Tell the recogniser.
    Speech(SpeechOrder),
    /// Show what a caller is saying to whoever watches; it is not kept.
    Partial(Box<PartialTranscript>),
    /// Keep a change.
    Persist(Change),
    /// Answer a command, once every change before this is kept.
    Reply {
        /// Names the command.
        ticket: u64,
        /// The answer.
        reply: Reply,
    },
    /// Do something for a flow; [`Input::Errand`] with the same ticket tells what came of it.
    Errand {
        /// Names the answer.
        ticket: u64,
        /// For whom.
        customer: CustomerId,
        /// What to do.
        errand: Errand,
    },
    /// Tell whoever reads the log.
    Note(Note),
    /// Every call is gone, or was given up: the process may stop.
    Drained,
}

/// How much a note matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something is broken here.
    Error,
    /// Something went wrong for someone.
    Warn,
    /// The course of things.
    Info,
    /// Details.
    Debug,
}

/// A line for the log. Never has a whole direct hash in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// How much it matters.
    pub level: Level,
    /// The SIP Call-ID; empty when it is about no call.
    pub call_id: String,
    /// The conference, or nil.
    pub conference: ConferenceId,
    /// The conferencecall, or nil.
    pub conferencecall: ConferencecallId,
    /// What happened, in words.
    pub text: String,
}
