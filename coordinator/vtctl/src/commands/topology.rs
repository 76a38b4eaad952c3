//! `vtctl topology`.

use std::{fs, io::Write as _, path::PathBuf, time::Duration};

use anyhow::Context as _;
use clap::Subcommand;
use prost::Message as _;
use serde::Serialize;
use vt_proto::wire::{
    ReadRecordsRequest, Record, RecordsUpdate, WatchRecordsRequest, record_key::Key,
    records_client::RecordsClient,
};

use super::schema::read_input;
use crate::{
    cli::Global,
    client::Client,
    failure::{Failure, Kind},
    output::{self, Format},
    topology::{
        Topology,
        check::{Mistake, check},
    },
};

/// How long after a broken watch another member is asked to go on.
const RESUME_PAUSE: Duration = Duration::from_millis(200);

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print every record as YAML: sorted, so that two exports can be compared
    Export {
        /// Write it there instead; the file is replaced whole
        #[arg(long, value_name = "FILE")]
        output_file: Option<PathBuf>,
    },
    /// Check the topology, or an export of one, against the rules
    Validate {
        /// A file as `vtctl topology export` prints it, or - for standard input; else the live topology is checked
        file: Option<String>,
    },
    /// Print records as they change
    Watch {
        /// Only of these kinds, as in keyspace,replica-set
        #[arg(long, value_delimiter = ',')]
        kinds: Vec<String>,
        /// Go on after this revision instead of beginning with everything
        #[arg(long, value_name = "REVISION", default_value_t = 0)]
        after: u64,
    },
}

pub async fn run(command: Command, global: &Global) -> anyhow::Result<()> {
    match command {
        Command::Export { output_file } => {
            let topology = live(global).await?;
            let text = match global.output {
                Format::Table => serde_saphyr::to_string(&topology).context("print as YAML")?,
                Format::Json => serde_json::to_string_pretty(&topology).context("print as JSON")?,
            };
            match output_file {
                None => output::print_text(&text),
                Some(path) => write_whole(&path, &text),
            }
        }
        Command::Validate { file } => validate(file, global).await,
        Command::Watch { kinds, after } => watch(kinds, after, global).await,
    }
}

async fn live(global: &Global) -> Result<Topology, anyhow::Error> {
    let mut client = global.client()?;
    let send = |mut records: RecordsClient<_>, request| async move { records.read(request).await };
    let answer = client
        .call_records(ReadRecordsRequest::default(), send)
        .await?;
    Ok(Topology::of(answer))
}

/// A reader of the file finds the old contents or the new ones, never half of them.
fn write_whole(path: &PathBuf, text: &str) -> anyhow::Result<()> {
    let mut beside = path.clone().into_os_string();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let write = || {
        let mut file = fs::File::create(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().with_context(|| format!("write {}", path.display()))
}

/// What a check found.
#[derive(Debug, Serialize)]
struct Verdict {
    source: String,
    revision: u64,
    mistakes: Vec<Mistake>,
}

async fn validate(file: Option<String>, global: &Global) -> anyhow::Result<()> {
    let (source, topology) = match file {
        None => ("the live topology".to_owned(), live(global).await?),
        Some(file) => {
            let topology = read(&file)?;
            (file, topology)
        }
    };
    let verdict = Verdict {
        source,
        revision: topology.revision,
        mistakes: check(&topology),
    };
    output::print(global.output, &verdict, Verdict::text)?;
    if verdict.mistakes.is_empty() {
        return Ok(());
    }
    let count = verdict.mistakes.len();
    let message = format!("{} breaks {count} rules", verdict.source);
    Err(Failure::new(Kind::Refused, message).into())
}

fn read(file: &str) -> anyhow::Result<Topology> {
    let text = read_input(file)?;
    serde_saphyr::from_str(&text).map_err(|error| {
        Failure::new(Kind::Usage, format!("{file}: {error}"))
            .next("write it as `vtctl topology export` prints it")
            .into()
    })
}

impl Verdict {
    fn text(&self) -> String {
        if self.mistakes.is_empty() {
            return format!(
                "{} keeps every rule, at revision {}",
                self.source, self.revision
            );
        }
        let line = |mistake: &Mistake| format!("{}: {}", mistake.path, mistake.what);
        self.mistakes
            .iter()
            .map(line)
            .collect::<Vec<_>>()
            .join("\n")
    }
}

/// One line of a watch.
#[derive(Debug, Serialize)]
struct Change {
    revision: u64,
    /// As it is at first, or that it changed.
    what: &'static str,
    key: String,
}

async fn watch(kinds: Vec<String>, after: u64, global: &Global) -> anyhow::Result<()> {
    let mut client = global.client()?;
    let mut request = WatchRecordsRequest {
        cluster_id: String::new(),
        after_revision: after,
        kinds,
    };
    loop {
        let broken = follow(&mut client, &mut request, global.output).await?;
        output::note(&format!("the watch broke and goes on: {broken}"));
        tokio::time::sleep(RESUME_PAUSE).await;
    }
}

/// Prints until the stream breaks; the request says then from where to go on.
async fn follow(
    client: &mut Client,
    request: &mut WatchRecordsRequest,
    format: Format,
) -> anyhow::Result<String> {
    let send = |mut records: RecordsClient<_>, request| async move { records.watch(request).await };
    let mut updates = client.call_records(request.clone(), send).await?;
    loop {
        match updates.message().await {
            Ok(Some(update)) => {
                print(&update, format)?;
                // The parts of a full state count once they are all there.
                if !update.more {
                    request.after_revision = update.revision;
                }
            }
            Ok(None) => return Ok("the coordinator has ended it".to_owned()),
            Err(status) => return Ok(status.message().to_owned()),
        }
    }
}

fn print(update: &RecordsUpdate, format: Format) -> anyhow::Result<()> {
    for bytes in &update.changes {
        let record = Record::decode(bytes.clone()).context("read an update")?;
        let change = Change {
            revision: record.revision,
            what: match (&record.value, update.full) {
                (None, _) => "deleted",
                (Some(_), true) => "is",
                (Some(_), false) => "changed",
            },
            key: key_text(record.key.and_then(|key| key.key)),
        };
        match format {
            Format::Table => output::print_text(&format!(
                "{:>8}  {:7}  {}",
                change.revision, change.what, change.key
            ))?,
            // A line each: the list never ends.
            Format::Json => output::print_text(&serde_json::to_string(&change)?)?,
        }
    }
    Ok(())
}

fn key_text(key: Option<Key>) -> String {
    match key {
        None => "a record of a kind that this version does not know".to_owned(),
        Some(Key::Cell(name)) => format!("cell/{name}"),
        Some(Key::Keyspace(name)) => format!("keyspace/{name}"),
        Some(Key::Shard(key)) => format!("shard/{}/{}", key.keyspace, key.range),
        Some(Key::ReplicaSet(name)) => format!("replica-set/{name}"),
        Some(Key::Tablet(alias)) => format!("tablet/{alias}"),
        Some(Key::VschemaTable(key)) => format!("vschema/{}/{}", key.keyspace, key.table),
        Some(Key::SchemaChange(id)) => format!("schema-change/{id}"),
        Some(Key::Coordinator(id)) => format!("coordinator/{id}"),
        Some(Key::Drain(tablet)) => format!("drain/{tablet}"),
        Some(Key::User(name)) => format!("user/{name}"),
    }
}
