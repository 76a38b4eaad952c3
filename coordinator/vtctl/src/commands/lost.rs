//! `vtctl lost`.

use clap::Subcommand;

use super::{replica_set::fetch_one, tablet::fetch};
use crate::{
    cli::Global,
    output,
    views::lost::{Lost, text},
};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// List what is kept, on which host and where
    ///
    /// Transactions that a primary had written when it died, and that nobody acknowledged: no client was told that they were committed.
    /// They are cut off when the former primary returns, kept on its host, and never replayed by themselves. Remove the directory there
    /// when you have decided about them.
    #[command(after_help = "Example:\n  vtctl lost list main")]
    List {
        /// Only of this replica set
        replica_set: Option<String>,
    },
}

pub async fn run(command: Command, global: &Global) -> anyhow::Result<()> {
    let Command::List { replica_set } = command;
    let mut client = global.client()?;
    if let Some(name) = &replica_set {
        fetch_one(&mut client, name).await?;
    }
    let tablets = fetch(&mut client, String::new()).await?;
    let lost = Lost::of(&tablets, replica_set.as_deref());
    output::print(global.output, &lost, text)
}
