//! `vtctl coordinator`.

use std::path::PathBuf;

use clap::Subcommand;
use serde::Serialize;
use vt_proto::wire::ListCoordinatorsRequest;

use crate::{cli::Global, client::Client, failure::Failure, output, views::coordinator::Group};

mod backup;
mod change;
mod status;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Who is in the group, who should be, and what a change waits for
    List {
        /// Take any member's word, for when there is no leader
        #[arg(long)]
        stale: bool,
    },
    /// Ask every member itself: where it stands, and whether all hold the same state
    Status,
    /// Add a member: it joins from an empty data directory, catches up, then votes
    #[command(after_help = "Example:\n  vtctl coordinator add db4.example:15100")]
    Add {
        /// Where it serves gRPC, as host:port
        address: String,
        #[command(flatten)]
        wait: Wait,
    },
    /// Remove a member; a leader hands over first. Its process ends, its directory is of no use any more
    Remove {
        id: u64,
        #[command(flatten)]
        wait: Wait,
    },
    /// Remove one member, lost or not, and add another in its place, in one step
    #[command(after_help = "Example:\n  vtctl coordinator replace 2 db4.example:15100")]
    Replace {
        id: u64,
        /// Where the new one serves gRPC, as host:port; the old one's address too
        address: String,
        #[command(flatten)]
        wait: Wait,
    },
    /// Say where a member is found from now on; its data directory has moved with it
    SetAddress { id: u64, address: String },
    /// Hand leadership over, as before a restart of the leader
    Transfer {
        /// To this member [default: the best one]
        #[arg(long, value_name = "ID")]
        to: Option<u64>,
    },
    /// Write a copy of the topology to a file
    #[command(after_help = "Example:\n  vtctl coordinator backup topology-$(date +%F).vtb")]
    Backup {
        file: PathBuf,
        /// Only check a file that is there: is every byte as it was written?
        #[arg(long)]
        verify: bool,
    },
    /// Begin a new group from a backup, in a coordinator that waits with an empty data directory
    ///
    /// For when all coordinators are lost. Stop all others of the old group for good before.
    #[command(
        after_help = "Example:\n  vtctl coordinator restore topology.vtb --to db1.example:15100"
    )]
    Restore {
        file: PathBuf,
        /// The coordinator that begins, as host:port
        #[arg(long, value_name = "ADDRESS")]
        to: String,
    },
}

/// Whether to wait for the outcome.
#[derive(Debug, clap::Args)]
pub struct Wait {
    /// Return once the coordinators know of it
    #[arg(long)]
    no_wait: bool,
}

/// Who leads after a transfer.
#[derive(Serialize)]
struct Leads {
    leader_id: u64,
}

pub async fn run(command: Command, global: &Global) -> anyhow::Result<()> {
    match command {
        Command::List { stale } => {
            let group = group(&mut global.client()?, stale).await?;
            output::print(global.output, &group, Group::text)
        }
        Command::Status => status::run(global).await,
        Command::Add { address, wait } => change::add(global, address, &wait).await,
        Command::Remove { id, wait } => change::remove(global, id, &wait).await,
        Command::Replace { id, address, wait } => change::replace(global, id, address, &wait).await,
        Command::SetAddress { id, address } => change::set_address(global, id, address).await,
        Command::Transfer { to } => {
            let leader_id = change::transfer(global, to).await?;
            output::print(global.output, &Leads { leader_id }, |it| {
                format!("coordinator {} leads", it.leader_id)
            })
        }
        Command::Backup { file, verify: true } => backup::verify(global, &file),
        Command::Backup {
            file,
            verify: false,
        } => backup::backup(global, &file).await,
        Command::Restore { file, to } => backup::restore(global, &file, &to).await,
    }
}

async fn group(client: &mut Client, stale: bool) -> Result<Group, Failure> {
    let answer = client
        .call(
            ListCoordinatorsRequest { stale },
            |mut admin, request| async move { admin.list_coordinators(request).await },
        )
        .await?;
    Ok(Group::from(answer))
}
