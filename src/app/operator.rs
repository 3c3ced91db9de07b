//! The operator's commands: clients of the REST API, and of nothing else.

mod client;
mod conference;
mod options;
mod table;
mod watch;

use std::process::ExitCode;

use super::failure::Failure;
use client::Client;
pub(super) use options::{ConferenceArguments, ConferenceCommand};

/// Runs `confab conference …`.
pub(super) fn conference(arguments: ConferenceArguments) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::other("the async runtime cannot be started", &error))?;
    runtime.block_on(async {
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
