//! Structured logs on standard output: text for people, JSON for machines. Secrets have a type that never prints them.

use std::{panic, process};

use anyhow::Context;
use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat};

/// Unless the filter names it.
const QUIET: &str = "mysql_async=off";

/// Starts logging for the whole process; once.
pub fn start(config: &LogConfig) -> anyhow::Result<()> {
    let filter: EnvFilter = config
        .filter
        .parse()
        .context("the log filter cannot be read")?;
    // It logs each error that it returns, also those of a mysqld that was just killed; they are logged where they are handled.
    let quiet = QUIET.parse().context("the log filter cannot be read")?;
    let filter = match config.filter.contains("mysql_async") {
        true => filter,
        false => filter.add_directive(quiet),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false);
    let started = match config.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("logging cannot be started: {error}"))
}

/// From now on every panic says what happened and aborts the process, in whatever thread or task it is: nobody goes on beside a
/// part that is gone.
pub fn end_at_panics() {
    let say = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        say(panic);
        process::abort();
    }));
}
