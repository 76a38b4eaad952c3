//! `vtctl local`: a whole cluster on this machine.

use std::path::Path;

use clap::Subcommand;

use crate::{
    cli::Global,
    failure::{Failure, Kind},
    local::cluster::{Cluster, PORTS_HELP},
};

mod down;
mod make;
mod overview;
mod status;
mod up;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a cluster: coordinators, agents, mysqlds, detached from this terminal
    ///
    /// Makes the directory and everything in it, or starts again what does not run of the cluster that is there.
    /// Needs vt-coordinator and vt-agent beside this program, or VT_BIN_DIR.
    #[command(after_help = PORTS_HELP)]
    Up(make::Arguments),
    /// Show the processes and the replica set; exit code 1 if something does not run
    Status,
    /// Stop every process of the cluster; its data stays
    Down(down::Arguments),
}

/// Runs one of them.
pub async fn run(command: Command, global: &Global) -> anyhow::Result<()> {
    match command {
        Command::Up(arguments) => up::run(arguments, global).await,
        Command::Status => status::run(global).await,
        Command::Down(arguments) => down::run(&arguments, global).await,
    }
}

fn existing(dir: &Path) -> anyhow::Result<Cluster> {
    let none = || {
        Failure::new(
            Kind::NotFound,
            format!("{} is no local cluster", dir.display()),
        )
        .next("`vtctl local up` makes one; --dir names another directory")
    };
    Ok(Cluster::load(dir)?.ok_or_else(none)?)
}
