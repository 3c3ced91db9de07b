//! SIGHUP: the configuration is read anew, and what changed is told to whom it concerns, as values. A
//! configuration with a fault changes nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::cli::ServeOptions;
use super::failure::Failure;
use super::process;
use super::wiring::{self, SpeechSettings};
use crate::api::ApiSettings;
use crate::config::{self, Config, Reload, Resolved, Takes, resolve};
use crate::control::{Control, Reconfigured};
use crate::errand::Errands;
use crate::net::http::Trust;
use crate::obs::log::LevelSwitch;
use crate::record::retention::Retention;
use crate::webhook::Telling;

/// How often the configuration was read anew.
#[derive(Debug, Default)]
pub(super) struct Reloads {
    /// And could be taken.
    pub ok: AtomicU64,
    /// And had a fault.
    pub failed: AtomicU64,
}

/// Whom a changed configuration is told to.
pub(super) struct Owners {
    /// The bridge, and the transports and errands beside it.
    pub control: Control,
    /// How many shards the bridge has.
    pub shards: u16,
    /// The API.
    pub api: watch::Sender<ApiSettings>,
    /// The webhooks.
    pub telling: watch::Sender<Telling>,
    /// What recordings are kept.
    pub kept: watch::Sender<Retention>,
    /// The recogniser.
    pub speech: watch::Sender<SpeechSettings>,
    /// Where the errands of other settings come from.
    pub errands: Errands,
    /// What is counted.
    pub reloads: Arc<Reloads>,
}

impl Owners {
    /// Tells them all. Nobody is told when something cannot be made of the configuration.
    async fn tell(&self, config: &Config) -> Result<(), String> {
        let no_tls = |error| format!("the TLS library cannot be used: {error}");
        let trust: Trust = wiring::trust(config)?;
        let telling = wiring::telling(config, &trust).map_err(no_tls)?;
        let errands = self.errands.with(wiring::errands(config, &trust)).map_err(no_tls)?;
        self.api.send_replace(wiring::api(config));
        self.telling.send_replace(telling);
        self.kept.send_replace(wiring::retention(config));
        let speech = wiring::speech(config, &trust);
        self.speech.send_if_modified(|old| std::mem::replace(old, speech.clone()) != speech);
        let (bridge, transports) = (wiring::bridge(config, self.shards), wiring::transport(config));
        self.control.change(Reconfigured { bridge, transports, errands }).await;
        Ok(())
    }
}

/// Reads the configuration anew when it is told to.
pub(super) struct Reloader {
    options: ServeOptions,
    running: Resolved,
    level: LevelSwitch,
    hangup: Signal,
}

impl Reloader {
    /// From now on SIGHUP no longer ends the process. `running` is what the server starts with.
    pub fn listen(options: ServeOptions, running: Resolved, level: LevelSwitch) -> Result<Self, Failure> {
        let hangup = signal(SignalKind::hangup())
            .map_err(|error| Failure::other("signals cannot be received", &error))?;
        Ok(Self { options, running, level, hangup })
    }

    /// Reads the sources; the faults in words, each with its place.
    fn read(&self) -> Result<Reload, Vec<String>> {
        let text = self
            .options
            .read_file()
            .map_err(|(path, error)| vec![format!("{} cannot be read: {error}", path.display())])?;
        let file = self.options.config.as_ref().map_or(String::new(), |path| format!("{}: ", path.display()));
        let sources = self.options.sources(process::environment(), text);
        let new = resolve(&sources)
            .map_err(|faults| faults.iter().map(|fault| format!("{file}{fault}")).collect::<Vec<_>>())?;
        Ok(config::reload(&self.running, &new))
    }

    async fn reload(&mut self, owners: &Owners) -> Result<(), Vec<String>> {
        let Reload { running, changes } = self.read()?;
        owners.tell(&running.config).await.map_err(|fault| vec![fault])?;
        let level = running.config.log.level;
        // Both ways the lines about it are written: by the level that lets more pass.
        if level > self.running.config.log.level {
            self.switch(&running.config);
        }
        running.warnings.iter().for_each(|warning| warn!("{warning}"));
        info!(changes = changes.len(), "the configuration was read anew");
        for change in &changes {
            match change.takes {
                Takes::AtOnce => info!("{change}"),
                Takes::NewCalls => info!("{change}, for calls that come from now on"),
                Takes::Restart => warn!("{change}: this needs a restart"),
            }
        }
        self.switch(&running.config);
        self.running = running;
        Ok(())
    }

    fn switch(&self, config: &Config) {
        if let Err(error) = self.level.set(config.log.level) {
            error!(%error, "the log level cannot be changed");
        }
    }
}

/// Waits until the configuration was read anew, and gives what the server runs with then. Never, where
/// there is nobody who reads it.
pub(super) async fn next(reloader: &mut Option<Reloader>, owners: &Owners) -> Option<Config> {
    let Some(reloader) = reloader else { return std::future::pending().await };
    reloader.hangup.recv().await?;
    let counter = match reloader.reload(owners).await {
        Ok(()) => &owners.reloads.ok,
        Err(faults) => {
            for fault in faults {
                error!("the configuration was not read anew, nothing changes: {fault}");
            }
            &owners.reloads.failed
        }
    };
    counter.fetch_add(1, Ordering::Relaxed);
    Some(reloader.running.config.clone())
}
