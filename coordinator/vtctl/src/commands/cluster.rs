//! `vtctl cluster`.

use clap::Subcommand;
use vt_proto::wire::GetClusterRequest;

use crate::{cli::Global, output, views::cluster::Cluster};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the coordinators: who leads, who is behind
    Show,
}

pub async fn run(command: &Command, global: &Global) -> anyhow::Result<()> {
    let Command::Show = command;
    let request = GetClusterRequest { stale: false };
    let view = global
        .client()?
        .call(request, |mut admin, request| async move {
            admin.get_cluster(request).await
        })
        .await?;
    output::print(global.output, &Cluster::from(view), Cluster::text)
}
