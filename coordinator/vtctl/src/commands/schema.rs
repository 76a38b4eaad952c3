//! `vtctl schema`.

use std::{
    fs, io,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use clap::Subcommand;
use serde::Serialize;
use vt_proto::wire::{self, ApplySchemaRequest, GetSchemaChangeRequest};

use crate::{
    cli::Global,
    client::{Client, request_id},
    failure::{Failure, Kind},
    output,
    progress::Progress,
    statements,
};

/// DDL on large tables takes minutes; the change goes on when nobody waits any more.
const APPLY_TIMEOUT: Duration = Duration::from_secs(120);
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// More than a schema has, and still one log entry.
const INPUT_BYTES_MAX: u64 = 1 << 20;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run DDL on the primaries of a keyspace, and wait for the outcome
    #[command(
        after_help = "Examples:\n  vtctl schema apply --keyspace commerce schema.sql\n  \
        vtctl schema apply --keyspace commerce --sql 'CREATE TABLE a (b INT PRIMARY KEY)'"
    )]
    Apply {
        #[arg(long)]
        keyspace: String,
        /// The statements themselves
        #[arg(long, required_unless_present = "file", conflicts_with = "file")]
        sql: Option<String>,
        /// A file of statements, or - for standard input
        file: Option<String>,
        /// Return once the coordinators know it
        #[arg(long)]
        no_wait: bool,
    },
}

#[derive(Debug, Serialize)]
struct Change {
    id: u64,
    keyspace: String,
    status: &'static str,
    statements: Vec<String>,
    error: Option<String>,
}

pub async fn run(command: Command, global: &Global) -> anyhow::Result<()> {
    let Command::Apply {
        keyspace,
        sql,
        file,
        no_wait,
    } = command;
    let text = match (sql, file) {
        (Some(sql), _) => sql,
        (None, Some(file)) => read_input(&file)?,
        (None, None) => String::new(),
    };
    let statements = statements::split(&text).map_err(|error| Failure::new(Kind::Usage, error))?;
    if statements.is_empty() {
        return Err(Failure::new(Kind::Usage, "there is no statement to apply").into());
    }
    let mut client = global.client()?;
    let request = ApplySchemaRequest {
        keyspace: keyspace.clone(),
        statements,
        request_id: request_id(),
    };
    let answer = client
        .call(request, |mut admin, request| async move {
            admin.apply_schema(request).await
        })
        .await?;
    let change = if no_wait {
        fetch(&mut client, answer.id).await?
    } else {
        wait(&mut client, answer.id, global.timeout_or(APPLY_TIMEOUT)).await?
    };
    output::print(global.output, &change, |it| {
        format!(
            "schema change {} of {}: {} ({} statements)",
            it.id,
            it.keyspace,
            it.status,
            it.statements.len()
        )
    })?;
    match change.error {
        Some(error) => Err(Failure::new(
            Kind::Failed,
            format!("schema change {} of {keyspace} failed: {error}", change.id),
        )
        .next(
            "statements before the failed one are applied and stay; correct the rest and apply it",
        )
        .into()),
        None => Ok(()),
    }
}

async fn wait(client: &mut Client, id: u64, limit: Duration) -> anyhow::Result<Change> {
    let began = Instant::now();
    let mut progress = Progress::quietly();
    loop {
        let change = fetch(client, id).await?;
        if change.status != "pending" {
            return Ok(change);
        }
        progress.step(&format!("schema change {id} is under way"));
        if began.elapsed() >= limit {
            return Err(Failure::new(
                Kind::Failed,
                format!("schema change {id} goes on; it is not over in time"),
            )
            .next(format!(
                "`vtctl events --subject schema-change/{id}` says when it is"
            ))
            .into());
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

async fn fetch(client: &mut Client, id: u64) -> Result<Change, Failure> {
    let request = GetSchemaChangeRequest { id };
    let view = client
        .call(request, |mut admin, request| async move {
            admin.get_schema_change(request).await
        })
        .await?;
    let change = view.change.unwrap_or_default();
    let status = match change.status() {
        wire::SchemaChangeStatus::Pending => "pending",
        wire::SchemaChangeStatus::Done => "done",
        wire::SchemaChangeStatus::Failed => "failed",
        wire::SchemaChangeStatus::Unspecified => "unknown",
    };
    Ok(Change {
        id: change.id,
        keyspace: change.keyspace,
        status,
        statements: change.statements,
        error: (status == "failed").then_some(change.error),
    })
}

/// The contents of a file, or of standard input for `-`; bounded.
pub fn read_input(file: &str) -> anyhow::Result<String> {
    let mut text = String::new();
    let read = |reader: &mut dyn io::Read, text: &mut String| {
        io::Read::read_to_string(&mut io::Read::take(reader, INPUT_BYTES_MAX + 1), text)
    };
    let outcome = if file == "-" {
        read(&mut io::stdin(), &mut text)
    } else {
        fs::File::open(file).and_then(|mut opened| read(&mut opened, &mut text))
    };
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Failure::new(Kind::Usage, format!("there is no file {file}")).into());
        }
        other => other.with_context(|| format!("read {file}"))?,
    };
    if text.len() as u64 > INPUT_BYTES_MAX {
        return Err(
            Failure::new(Kind::Usage, format!("{file} is larger than 1 MiB"))
                .next("apply it in parts")
                .into(),
        );
    }
    Ok(text)
}
