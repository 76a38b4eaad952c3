//! Structured logs on standard output: text for people, JSON for machines. The raft library's own lines join them.

use std::fmt::{self, Write};

use anyhow::Context;
use slog::{Drain, KV, Level, Logger, Never, OwnedKVList, Record};
use tracing_subscriber::EnvFilter;

use crate::config::{Config, LogFormat};

/// Starts logging for the whole process; once.
pub fn start(config: &Config) -> anyhow::Result<()> {
    let filter: EnvFilter = config
        .log_filter
        .parse()
        .context("the log filter cannot be read")?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false);
    let started = match config.log_format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("logging cannot be started: {error}"))
}

/// Takes the raft library's lines, which it writes through slog.
pub fn raft_logger() -> Logger {
    Logger::root(ToTracing, slog::o!())
}

/// One step quieter than the library thinks: who leads is told by the node in our own words.
struct ToTracing;

impl Drain for ToTracing {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, _values: &OwnedKVList) -> Result<(), Never> {
        let message = record.msg();
        let fields = || {
            let mut fields = Fields::default();
            // Writing to a string does not fail.
            drop(record.kv().serialize(record, &mut fields));
            fields.text
        };
        match record.level() {
            Level::Critical | Level::Error => {
                tracing::error!(target: "raft", fields = fields(), "{message}");
            }
            Level::Warning => tracing::warn!(target: "raft", fields = fields(), "{message}"),
            Level::Info => tracing::debug!(target: "raft", fields = fields(), "{message}"),
            Level::Debug | Level::Trace => {
                tracing::trace!(target: "raft", fields = fields(), "{message}");
            }
        }
        Ok(())
    }
}

#[derive(Default)]
struct Fields {
    text: String,
}

impl slog::Serializer for Fields {
    fn emit_arguments(&mut self, key: slog::Key, value: &fmt::Arguments<'_>) -> slog::Result {
        let space = if self.text.is_empty() { "" } else { " " };
        write!(self.text, "{space}{key}={value}").map_err(|_| slog::Error::Other)
    }
}
