//! The operator's commands: clients of the REST API, and of nothing else.

mod client;
mod conference;
mod download;
mod options;
mod recording;
mod table;
mod watch;

use std::future::Future;
use std::process::ExitCode;

use super::failure::Failure;
use client::Client;
pub(super) use options::{ConferenceArguments, ConferenceCommand, RecordingArguments, RecordingCommand};

/// Runs `confab conference …`.
pub(super) fn conference(arguments: ConferenceArguments) -> Result<ExitCode, Failure> {
    run(async {
        let client = Client::new(&arguments.connection)?;
        let output = arguments.connection.output;
        match arguments.command {
            ConferenceCommand::List(filter) => conference::list(&client, output, &filter).await,
            ConferenceCommand::Create(new) => conference::create(&client, output, &new).await,
            ConferenceCommand::Show { id } => conference::show(&client, output, &id).await,
            ConferenceCommand::End { id } => conference::end(&client, output, &id).await,
            ConferenceCommand::Watch { id, after } => watch::watch(&client, output, &id, after).await,
        }
    })
}

/// Runs `confab recording …`.
pub(super) fn recording(arguments: RecordingArguments) -> Result<ExitCode, Failure> {
    run(async {
        let client = Client::new(&arguments.connection)?;
        let output = arguments.connection.output;
        match arguments.command {
            RecordingCommand::List { conference } => {
                recording::list(&client, output, conference.as_deref()).await
            }
            RecordingCommand::Show { id } => recording::show(&client, output, &id).await,
            RecordingCommand::Start(new) => recording::start(&client, output, &new).await,
            RecordingCommand::Stop { conference } => {
                recording::change(&client, output, &conference, "stop").await
            }
            RecordingCommand::Pause { conference } => {
                recording::change(&client, output, &conference, "pause").await
            }
            RecordingCommand::Resume { conference } => {
                recording::change(&client, output, &conference, "resume").await
            }
            RecordingCommand::Download(wanted) => download::download(&client, output, &wanted).await,
            RecordingCommand::Delete { id } => recording::delete(&client, output, &id).await,
        }
    })
}

/// Runs a command to its end.
fn run(command: impl Future<Output = Result<ExitCode, Failure>>) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::other("the async runtime cannot be started", &error))?;
    runtime.block_on(command)
}
