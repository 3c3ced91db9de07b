//! The command lines of the operator's commands.

// Doc comments here are the help text, word for word, and not Markdown.
#![allow(rustdoc::broken_intra_doc_links, rustdoc::invalid_html_tags, rustdoc::bare_urls)]

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// How results are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(in crate::app) enum Output {
    /// Columns, for people.
    #[default]
    Table,
    /// JSON, for programs.
    Json,
}

/// Where the server is. Who asks is told by CONFAB_ACCESSKEY only, since every user can read a command
/// line.
#[derive(Clone, Debug, Args)]
pub(in crate::app) struct Connection {
    /// Where the REST API is served: ADDR:PORT, or a URL such as https://confab.example
    #[arg(long, value_name = "WHERE", env = "CONFAB_HTTP", default_value = "127.0.0.1:8080", global = true)]
    pub http: String,
    /// How results are shown
    #[arg(long, short, value_enum, value_name = "HOW", default_value_t, global = true)]
    pub output: Output,
}

/// The arguments of `confab conference`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
The access key is taken from CONFAB_ACCESSKEY: `confab serve` prints the first one once, `confab demo`
one for each run. A key of the scope `read` can list, show and watch.

Examples:
  export CONFAB_ACCESSKEY=vb_…
  confab conference list
  confab conference create --name standup --timeout 3600
  confab conference show 12cffa63-cff7-4e74-9df3-fcab579dc4ce
  confab conference watch 12cffa63-cff7-4e74-9df3-fcab579dc4ce --after 0
  confab conference end 12cffa63-cff7-4e74-9df3-fcab579dc4ce
  confab conference list --output json | jq -r '.[].id'

Exit codes: 0 done, 1 refused or no server, 2 wrong options.")]
pub(in crate::app) struct ConferenceArguments {
    /// Where and how
    #[command(flatten)]
    pub connection: Connection,
    /// What to do
    #[command(subcommand)]
    pub command: ConferenceCommand,
}

/// What to do with conferences.
#[derive(Clone, Debug, Subcommand)]
pub(in crate::app) enum ConferenceCommand {
    /// List the conferences, newest first
    List(Filter),
    /// Make a conference and show how to dial it
    Create(New),
    /// Show a conference and who is in it
    Show {
        /// The conference's id
        id: String,
    },
    /// End and delete a conference: everybody gets BYE
    End {
        /// The conference's id
        id: String,
    },
    /// Follow what happens in a conference, until it ends or ctrl-C
    Watch {
        /// The conference's id
        id: String,
        /// First show what happened after this seq; 0 shows all that is kept
        #[arg(long, value_name = "SEQ")]
        after: Option<u64>,
    },
}

/// Which conferences.
#[derive(Clone, Debug, Args)]
pub(in crate::app) struct Filter {
    /// Only this type: conference or connect
    #[arg(long, value_name = "TYPE")]
    pub r#type: Option<String>,
    /// Only this status: progressing, terminating or terminated
    #[arg(long, value_name = "STATUS")]
    pub status: Option<String>,
}

/// What a new conference is like.
#[derive(Clone, Debug, Args)]
pub(in crate::app) struct New {
    /// Name, for people
    #[arg(long, default_value = "")]
    pub name: String,
    /// Description, for people
    #[arg(long, default_value = "")]
    pub detail: String,
    /// conference: any number; connect: two, and it ends when one leaves
    #[arg(long, value_name = "TYPE", default_value = "conference")]
    pub r#type: String,
    /// Seconds until it ends by itself; 0 never
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub timeout: u64,
    /// Make it without a direct URI
    #[arg(long)]
    pub no_direct_access: bool,
}

/// The arguments of `confab recording`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
The access key is taken from CONFAB_ACCESSKEY, as for `confab conference`. A key of the scope `read` can
list, show and download.

Examples:
  confab recording start 12cffa63-cff7-4e74-9df3-fcab579dc4ce --format ogg --tracks
  confab recording pause 12cffa63-cff7-4e74-9df3-fcab579dc4ce
  confab recording stop 12cffa63-cff7-4e74-9df3-fcab579dc4ce
  confab recording list --conference 12cffa63-cff7-4e74-9df3-fcab579dc4ce
  confab recording download 5a0c4a61-6f5e-4a35-9b0c-0d1f6f2c7e11 --to meeting.ogg
  confab recording list --output json | jq -r '.[].id'

Exit codes: 0 done, 1 refused or no server, 2 wrong options.")]
pub(in crate::app) struct RecordingArguments {
    /// Where and how
    #[command(flatten)]
    pub connection: Connection,
    /// What to do
    #[command(subcommand)]
    pub command: RecordingCommand,
}

/// What to do with recordings.
#[derive(Clone, Debug, Subcommand)]
pub(in crate::app) enum RecordingCommand {
    /// List the recordings, newest first
    List {
        /// Only those of this conference
        #[arg(long, value_name = "ID")]
        conference: Option<String>,
    },
    /// Show a recording, and where its files are
    Show {
        /// The recording's id
        id: String,
    },
    /// Start to record a conference, and show the recording
    Start(NewRecording),
    /// Stop the recording of a conference that runs
    Stop {
        /// The conference's id
        conference: String,
    },
    /// Make the recording of a conference silent; its time goes on
    Pause {
        /// The conference's id
        conference: String,
    },
    /// End the silence of a paused recording
    Resume {
        /// The conference's id
        conference: String,
    },
    /// Fetch a file of a recording that has ended; goes on where it was when the connection breaks
    Download(Wanted),
    /// Delete a recording that has ended, and its files
    Delete {
        /// The recording's id
        id: String,
    },
}

/// What a new recording is like.
#[derive(Clone, Debug, Args)]
pub(in crate::app) struct NewRecording {
    /// The conference's id
    pub conference: String,
    /// wav or ogg (Opus)
    #[arg(long, value_name = "FORMAT", default_value = "wav")]
    pub format: String,
    /// Seconds after which it stops by itself; 0 for 24 hours
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub duration: u64,
    /// Give each caller a track of its own, too
    #[arg(long)]
    pub tracks: bool,
    /// The flow that runs when it has ended
    #[arg(long, value_name = "ID")]
    pub on_end_flow: Option<String>,
}

/// Which file of a recording, and where to.
#[derive(Clone, Debug, Args)]
pub(in crate::app) struct Wanted {
    /// The recording's id
    pub id: String,
    /// Where to; by default its own name, in this folder
    #[arg(long, value_name = "FILE")]
    pub to: Option<PathBuf>,
    /// Only what this conferencecall said, of a recording with tracks
    #[arg(long, value_name = "ID", conflicts_with = "marks")]
    pub track: Option<String>,
    /// The marks of its tracks: who came, went and spoke when, a JSON object a line
    #[arg(long)]
    pub marks: bool,
}
