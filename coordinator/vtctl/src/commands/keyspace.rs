//! `vtctl keyspace`.

use std::time::{Duration, Instant};

use clap::Subcommand;
use vt_proto::wire::{CreateKeyspaceRequest, DeleteKeyspaceRequest, ListKeyspacesRequest};

use super::{Written, replica_set};
use crate::{
    cli::Global,
    client::{Client, request_id},
    failure::{Failure, Kind},
    login, output,
    progress::Progress,
    views::{
        keyspace::{Keyspace, summary},
        replica_set::ReplicaSet,
    },
};

/// How long the schema may take to appear: a primary may have to be found first.
const CREATE_TIMEOUT: Duration = Duration::from_secs(120);
const POLL_INTERVAL: Duration = Duration::from_millis(100);

#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the keyspaces and where their shards live
    List,
    /// Make a keyspace: an unsharded one on one replica set
    ///
    /// Waits until the primary has its schema, so that routers serve it.
    Create {
        name: String,
        /// Where it lives; may be left out while there is only one
        #[arg(long)]
        replica_set: Option<String>,
        /// Return once the coordinators know it
        #[arg(long)]
        no_wait: bool,
    },
    /// Forget a keyspace; its tables stay where they are
    Delete {
        name: String,
        /// Also when its vschema has tables
        #[arg(long)]
        force: bool,
        /// Only if it is at this revision
        #[arg(long, default_value_t = 0, hide_default_value = true)]
        revision: u64,
    },
}

pub async fn run(command: Command, global: &Global) -> anyhow::Result<()> {
    let mut client = global.client()?;
    match command {
        Command::List => {
            let keyspaces = fetch(&mut client).await?;
            output::print(global.output, &keyspaces, |keyspaces| summary(keyspaces))
        }
        Command::Create {
            name,
            replica_set,
            no_wait,
        } => {
            let replica_set = replica_set.unwrap_or_default();
            create(&mut client, global, name, replica_set, no_wait).await
        }
        Command::Delete {
            name,
            force,
            revision,
        } => {
            let request = DeleteKeyspaceRequest {
                name: name.clone(),
                force,
                expected_revision: revision,
                request_id: request_id(),
            };
            let answer = client
                .call(request, |mut admin, request| async move {
                    admin.delete_keyspace(request).await
                })
                .await?;
            let written = Written {
                revision: answer.revision,
            };
            output::print(global.output, &written, |_| {
                format!("keyspace {name} is forgotten; its tables stay where they are")
            })
        }
    }
}

async fn create(
    client: &mut Client,
    global: &Global,
    name: String,
    replica_set: String,
    no_wait: bool,
) -> anyhow::Result<()> {
    let request = CreateKeyspaceRequest {
        name: name.clone(),
        replica_set,
        request_id: request_id(),
    };
    let answer = client
        .call(request, |mut admin, request| async move {
            admin.create_keyspace(request).await
        })
        .await?;
    let made = fetch(client).await?.into_iter().find(|it| it.name == name);
    let made = made.ok_or_else(|| {
        let message = format!("keyspace {name} was made and is gone again");
        Failure::new(Kind::Refused, message).next("`vtctl events` says who deleted it")
    })?;
    if !no_wait {
        let limit = global.timeout_or(CREATE_TIMEOUT);
        for shard in &made.shards {
            wait_for_schema(client, &name, &shard.replica_set, limit).await?;
        }
        wait_for_router(global, &name, limit).await?;
    }
    let written = Written {
        revision: answer.revision,
    };
    output::print(global.output, &written, |_| {
        let homes: Vec<_> = made
            .shards
            .iter()
            .map(|it| it.replica_set.as_str())
            .collect();
        format!(
            "keyspace {name} is there, on replica set {}",
            homes.join(", ")
        )
    })
}

async fn fetch(client: &mut Client) -> Result<Vec<Keyspace>, Failure> {
    let request = ListKeyspacesRequest { stale: false };
    let answer = client
        .call(request, |mut admin, request| async move {
            admin.list_keyspaces(request).await
        })
        .await?;
    Ok(answer.keyspaces.into_iter().map(Keyspace::from).collect())
}

async fn wait_for_schema(
    client: &mut Client,
    keyspace: &str,
    set: &str,
    limit: Duration,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + limit;
    let mut progress = Progress::quietly();
    loop {
        let set = replica_set::fetch_one(client, set).await?;
        let Some(missing) = schema_missing(&set, keyspace) else {
            return Ok(());
        };
        progress.step(&missing);
        if Instant::now() >= deadline {
            let message = format!("keyspace {keyspace} is known and not served yet: {missing}");
            return Err(Failure::new(Kind::Failed, message)
                .next(format!(
                    "`vtctl replica-set show {}` says what holds it up",
                    set.name
                ))
                .into());
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// The primary has heard of the schema; the router shows that it is there.
async fn wait_for_router(global: &Global, keyspace: &str, limit: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + limit;
    let mut progress = Progress::quietly();
    while !login::local_router_serves(global, keyspace).await? {
        progress.step("waiting for the router to serve it");
        if Instant::now() >= deadline {
            let message = format!("keyspace {keyspace} is there and the router does not serve it");
            return Err(Failure::new(Kind::Failed, message)
                .next("`vtctl local status` and the log of the first agent say why")
                .into());
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    Ok(())
}

/// What is missing until the primary has acted on a desired state that names the keyspace's schema.
fn schema_missing(set: &ReplicaSet, keyspace: &str) -> Option<String> {
    let primary = set.primary.as_ref().filter(|_| set.serving);
    let Some(primary) =
        primary.and_then(|alias| set.tablets.iter().find(|tablet| tablet.alias == *alias))
    else {
        let why = set
            .blocked
            .as_deref()
            .unwrap_or("it is being chosen or opened");
        return Some(format!(
            "replica set {} has no open primary: {why}",
            set.name
        ));
    };
    let named = |schema: &String| schema == keyspace || schema.starts_with(&format!("{keyspace}$"));
    let desired = primary
        .desired
        .as_ref()
        .filter(|desired| desired.schemas.iter().any(named));
    let Some(desired) = desired else {
        return Some(format!(
            "the schema is not yet desired of {}",
            primary.alias
        ));
    };
    let report = primary.report.as_ref();
    if report.is_none_or(|report| report.generation < desired.generation) {
        return Some(format!("{} has not heard of the schema yet", primary.alias));
    }
    primary
        .trouble()
        .map(|why| format!("{}: {why}", primary.alias))
}
