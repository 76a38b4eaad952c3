//! vt-coordinator: a member of the group that keeps the topology and decides about it.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context;
use clap::Parser;
use sd_notify::NotifyState;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tracing::info;
use vt_coordinator::{app::App, config::Config, logging, node::Handle, panics, restore};

/// Exit code for a configuration that cannot be used.
const EXIT_BAD_CONFIG: u8 = 2;

/// Keeps the topology of a Vitrail cluster together with its other members, and decides about it.
#[derive(Parser)]
#[command(version)]
struct Flags {
    #[command(subcommand)]
    task: Option<Task>,
    /// The configuration file (TOML).
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Only say whether the configuration file can be used.
    #[arg(long)]
    check_config: bool,
}

/// What is done instead of serving.
#[derive(clap::Subcommand)]
enum Task {
    /// After the majority of the coordinators was lost for good: make this survivor, stopped, a group of its own
    Recover {
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Begin a group of its own from a backup, in an empty data directory; `vtctl coordinator restore` does so to one that runs
    Restore {
        /// A file of `vtctl coordinator backup`
        backup: PathBuf,
    },
}

fn main() -> ExitCode {
    panics::end_at_panics();
    let flags = Flags::parse();
    let Some(path) = flags.config else {
        eprintln!("vt-coordinator: name the configuration file with --config FILE");
        return ExitCode::from(EXIT_BAD_CONFIG);
    };
    let config = match Config::load(&path) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("vt-coordinator: {error}");
            return ExitCode::from(EXIT_BAD_CONFIG);
        }
    };
    if flags.check_config {
        println!("{} can be used", path.display());
        return ExitCode::SUCCESS;
    }
    let outcome = match flags.task {
        Some(Task::Recover { yes }) => restore::recover(&config, yes),
        Some(Task::Restore { backup }) => restore::restore(&config, &backup),
        None => run(config),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vt-coordinator: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(config: Config) -> anyhow::Result<()> {
    logging::start(&config)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime cannot be started")?;
    runtime.block_on(async {
        let app = App::start(config).await?;
        let stop = CancellationToken::new();
        let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be caught")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be caught")?;
        let stopping = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            info!("asked to stop");
            drop(sd_notify::notify(&[NotifyState::Stopping]));
            stopping.cancel();
        });
        tokio::spawn(tell_systemd(app.handle.clone()));
        app.serve(stop).await
    })
}

/// Says that it is ready, then, if systemd asked for it, that its loop still answers.
async fn tell_systemd(handle: Handle) {
    drop(sd_notify::notify(&[NotifyState::Ready]));
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return;
    };
    while handle.read(false, |_, _| ()).await.is_ok() {
        drop(sd_notify::notify(&[NotifyState::Watchdog]));
        sleep((limit / 3).max(Duration::from_millis(100))).await;
    }
}
