//! The program: reads the command line and the configuration, starts the parts, ends them in order.

mod backup;
mod cli;
mod demo;
mod failure;
mod gather;
mod operator;
mod process;
mod ready;
mod reload;
mod server;
mod wiring;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser as _;

use crate::config::resolve;
use crate::load;
use crate::obs::log;
use cli::{Cli, FloorArguments, ServeOptions, Subcommand};
use failure::Failure;
use reload::Reloader;
use server::{Ending, Server};

/// Worker threads of the async runtime: signalling and the API. Media has threads of its own.
const RUNTIME_THREADS: usize = 2;

/// Runs the program and gives its exit code.
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Subcommand::Serve(options) => serve(&options, false),
        Subcommand::Demo(options) => serve(&options, true),
        Subcommand::Call(options) => return load::call(&options),
        Subcommand::Load(options) => return load::load(&options),
        Subcommand::Floor(arguments) => floor(&arguments),
        Subcommand::Conference(arguments) => operator::conference(arguments),
        Subcommand::Recording(arguments) => operator::recording(arguments),
        Subcommand::Backup(options) => backup::backup(&options),
        Subcommand::Restore(options) => backup::restore(&options),
    };
    match result {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::from(failure.code)
        }
    }
}

/// `confab serve` and `confab demo`.
fn serve(options: &ServeOptions, is_demo: bool) -> Result<ExitCode, Failure> {
    let environment = process::environment();
    let text = options.read_file().map_err(|(path, error)| Failure::config_file(&path, &error))?;
    let sources = options.sources(environment, text);
    let resolved = resolve(&sources).map_err(|errors| Failure::config(options.config.as_deref(), &errors))?;
    let mut config = resolved.config.clone();
    let logs = log::start(config.log).map_err(|error| Failure::other("logging cannot be started", &error))?;
    for warning in &resolved.warnings {
        tracing::warn!("{warning}");
    }
    process::raise_file_limit();
    let mut rng = process::rng().map_err(|error| Failure::other("the system gives no randomness", &error))?;
    let demo = is_demo.then(|| demo::prepare(&mut config, &sources, &mut rng));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(RUNTIME_THREADS)
        .thread_name("confab")
        .enable_all()
        .build()
        .map_err(|error| Failure::other("the async runtime cannot be started", &error))?;
    let ending = runtime.block_on(async {
        // A demo ends with its terminal.
        let reloader = match is_demo {
            true => None,
            false => Some(Reloader::listen(options.clone(), resolved, logs.level.clone())?),
        };
        let server = Server::start(config, rng).await?;
        ready::print(&server.ready_text());
        if let Some(demo) = demo {
            ready::print(&demo.open(&server).await?);
        }
        server.run(reloader).await
    })?;
    if let Ending::AtOnce = ending {
        // What still runs is what the second signal did not want to wait for.
        runtime.shutdown_background();
    }
    logs.flush();
    Ok(ending.exit_code())
}

/// `confab floor`.
fn floor(arguments: &FloorArguments) -> Result<ExitCode, Failure> {
    process::raise_file_limit();
    let options = arguments.options();
    let stop = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| Failure::other("the async runtime cannot be started", &error))?;
    let its_stop = stop.clone();
    runtime.spawn(async move {
        let signals = server::Signals::listen();
        if let Ok(mut signals) = signals {
            signals.next().await;
        }
        its_stop.store(true, Ordering::Relaxed);
    });
    ready::print(&format!("the floor echoes at sip:anyone@{}; ctrl-C ends it\n", options.sip));
    let counters = load::floor::run(&options, &stop)
        .map_err(|error| Failure::bind("UDP", options.sip, &error, "--sip"))?;
    ready::print(&format!("{counters:#?}\n"));
    Ok(ExitCode::SUCCESS)
}
