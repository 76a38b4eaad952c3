//! The tree of commands: one file each.

use clap::Subcommand;
use serde::Serialize;

use crate::cli::Global;

pub mod cluster;
pub mod completions;
pub mod coordinator;
pub mod events;
pub mod host;
pub mod keyspace;
pub mod local;
pub mod lost;
pub mod pki;
pub mod queries;
pub mod replica_set;
pub mod schema;
pub mod session;
pub mod sql;
pub mod tablet;
pub mod topology;
pub mod user;
pub mod version;
pub mod vschema;
pub mod why;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a whole cluster on this machine
    #[command(subcommand)]
    Local(local::Command),
    /// The coordinators
    #[command(subcommand)]
    Cluster(cluster::Command),
    /// Members of the coordinators' group: add, remove, replace; back up and restore the topology
    #[command(subcommand)]
    Coordinator(coordinator::Command),
    /// Logical databases
    #[command(subcommand)]
    Keyspace(keyspace::Command),
    /// The tablets that replicate from one primary
    #[command(subcommand)]
    ReplicaSet(replica_set::Command),
    /// The mysqld servers and their agents
    #[command(subcommand)]
    Tablet(tablet::Command),
    /// Who may log in to routers, and what each may do
    #[command(subcommand)]
    User(user::Command),
    /// Hosts that are to be maintained
    #[command(subcommand)]
    Host(host::Command),
    /// All records: as a document, checked, as they change
    #[command(subcommand)]
    Topology(topology::Command),
    /// What was decided, about whom, on what evidence
    Events(events::Arguments),
    /// Why a replica set is as it is: its last change of primary, step by step
    Why(why::Arguments),
    /// Transactions that nobody acknowledged and that a returning primary had to give up
    #[command(subcommand)]
    Lost(lost::Command),
    /// Change tables: DDL for a keyspace
    #[command(subcommand)]
    Schema(schema::Command),
    /// How tables are sharded
    #[command(subcommand)]
    Vschema(vschema::Command),
    /// Certificates of the programs and of people
    Pki(pki::Arguments),
    /// Run SQL through a router
    Sql(sql::Arguments),
    /// What runs at routers: kinds of statements, how often, how long
    #[command(subcommand)]
    Queries(queries::Command),
    /// Who is connected to routers, and what each session holds
    #[command(subcommand)]
    Session(session::Command),
    /// Print the completions of a shell
    Completions(completions::Arguments),
    /// Print the version
    Version,
}

/// Runs one command.
pub async fn run(command: Command, global: &Global) -> anyhow::Result<()> {
    match command {
        Command::Local(command) => local::run(command, global).await,
        Command::Cluster(command) => cluster::run(&command, global).await,
        Command::Coordinator(command) => coordinator::run(command, global).await,
        Command::Keyspace(command) => keyspace::run(command, global).await,
        Command::ReplicaSet(command) => replica_set::run(command, global).await,
        Command::Tablet(command) => tablet::run(command, global).await,
        Command::User(command) => user::run(command, global).await,
        Command::Host(command) => host::run(command, global).await,
        Command::Topology(command) => topology::run(command, global).await,
        Command::Events(arguments) => events::run(arguments, global).await,
        Command::Why(arguments) => why::run(arguments, global).await,
        Command::Lost(command) => lost::run(command, global).await,
        Command::Schema(command) => schema::run(command, global).await,
        Command::Vschema(command) => vschema::run(command, global).await,
        Command::Pki(arguments) => pki::run(arguments, global).await,
        Command::Sql(arguments) => sql::run(arguments, global).await,
        Command::Queries(command) => queries::run(command, global).await,
        Command::Session(command) => session::run(command, global).await,
        Command::Completions(arguments) => completions::run(&arguments),
        Command::Version => version::run(global),
    }
}

/// What a write answers.
#[derive(Debug, Serialize)]
struct Written {
    revision: u64,
}
