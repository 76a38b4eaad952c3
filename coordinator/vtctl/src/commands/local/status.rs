//! `vtctl local status`.

use std::time::Duration;

use super::{existing, overview::Overview};
use crate::{
    cli::Global,
    client::Client,
    commands::replica_set,
    failure::{Failure, Kind},
    output,
};

/// The processes are shown anyhow; coordinators without a leader need not be waited for.
const QUERY_TIMEOUT: Duration = Duration::from_secs(3);

pub async fn run(global: &Global) -> anyhow::Result<()> {
    let cluster = existing(&global.local_dir()?)?;
    let mut overview = Overview::of(&cluster).await?;
    let mut client = Client::new(
        cluster.coordinator_addresses(),
        cluster.operator_tls(),
        global.timeout_or(QUERY_TIMEOUT),
    );
    match replica_set::fetch_one(&mut client, &cluster.settings.replica_set).await {
        Ok(set) => {
            overview.missing = set.missing(usize::from(cluster.settings.tablets));
            overview.replica_set = Some(set);
        }
        Err(failure) => overview.missing = Some(failure.message),
    }
    output::print(global.output, &overview, Overview::text)?;
    if overview.whole() {
        return Ok(());
    }
    Err(Failure::new(Kind::Failed, "the cluster is not whole")
        .next("`vtctl local up` starts what does not run; the logs are in the directory log")
        .into())
}
