//! `vtctl coordinator status`: every member is asked itself.

use std::{collections::BTreeMap, time::Duration};

use tokio::{task::JoinSet, time::timeout};
use vt_proto::wire::{CoordinatorStatusRequest, maintenance_client::MaintenanceClient};
use vt_tls::files::TlsFiles;

use super::group;
use crate::{
    cli::Global,
    client::{Client, dial, failure_of},
    failure::{Failure, Kind},
    output,
    views::coordinator::{Status, Statuses},
};

/// A member that has not answered by then is shown as unreachable.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

pub async fn run(global: &Global) -> anyhow::Result<()> {
    let (given, tls) = global.reach()?;
    // The records know those that nobody named; without any member that answers, the given ones are all there is.
    let limit = global.timeout_or(ANSWER_TIMEOUT);
    let mut client = Client::new(given.clone(), tls.clone(), limit);
    let known = group(&mut client, true).await.unwrap_or_default();
    let named = given.into_iter().map(|address| (address, None));
    let known = known
        .members
        .into_iter()
        .map(|it| (it.address, Some(it.id)));
    let mut addresses: BTreeMap<String, Option<u64>> = named.collect();
    addresses.extend(known);
    let mut asked = JoinSet::new();
    for (address, id) in addresses {
        let tls = tls.clone();
        asked.spawn(async move {
            ask(&address, tls.as_ref())
                .await
                .unwrap_or_else(|failure| Status {
                    id,
                    unreachable: Some(failure.message),
                    address,
                    ..Status::default()
                })
        });
    }
    let statuses = Statuses::new(asked.join_all().await);
    output::print(global.output, &statuses, Statuses::text)?;
    if statuses.members.iter().all(|it| it.unreachable.is_some()) {
        let failure = Failure::new(Kind::Unreachable, "no coordinator answers");
        return Err(failure
            .next("see that they run and that --coordinators names them")
            .into());
    }
    if !statuses.different_at.is_empty() {
        let message = "members hold different states at the same log index";
        return Err(Failure::new(Kind::Failed, message)
            .next("keep their data directories as evidence, and replace those in the minority: `vtctl coordinator replace`")
            .into());
    }
    Ok(())
}

async fn ask(address: &str, tls: Option<&TlsFiles>) -> Result<Status, Failure> {
    let mut client = MaintenanceClient::new(dial(address, tls).await?);
    let answer = timeout(
        ANSWER_TIMEOUT,
        client.coordinator_status(CoordinatorStatusRequest {}),
    );
    match answer.await {
        Ok(Ok(answer)) => Ok(Status::of(address, answer.into_inner())),
        Ok(Err(status)) => Err(failure_of(address, &status)),
        Err(_) => Err(Failure::new(Kind::Unreachable, "no answer in time")),
    }
}
