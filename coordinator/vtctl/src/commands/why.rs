//! `vtctl why`.

use vt_proto::wire::ListEventsRequest;

use super::replica_set::fetch_one;
use crate::{
    cli::Global,
    failure::{Failure, Kind},
    output,
    views::why::{Why, explain},
};

/// All that the coordinators keep of one replica set: they keep fewer events than this of everything.
const EVENTS_MAX: u32 = 10_000;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  vtctl why main --epoch 7")]
pub struct Arguments {
    /// The replica set
    name: String,
    /// The change that began this epoch [default: the last change]
    #[arg(long)]
    epoch: Option<u64>,
}

pub async fn run(arguments: Arguments, global: &Global) -> anyhow::Result<()> {
    let mut client = global.client()?;
    let set = fetch_one(&mut client, &arguments.name).await?;
    if let Some(epoch) = arguments.epoch.filter(|epoch| *epoch > set.epoch) {
        let message = format!(
            "replica set {} has had no epoch {epoch}: the present one is {}",
            set.name, set.epoch
        );
        return Err(Failure::new(Kind::NotFound, message).into());
    }
    let request = ListEventsRequest {
        after: 0,
        limit: EVENTS_MAX,
        subject: format!("replica-set/{}", set.name),
    };
    let answer = client
        .call(request, |mut admin, request| async move {
            admin.list_events(request).await
        })
        .await?;
    let why = explain(&set, &answer.events, answer.oldest, arguments.epoch);
    output::print(global.output, &why, Why::text)
}
