//! `vtctl host`.

use std::time::{Duration, Instant};

use clap::Subcommand;
use serde::Serialize;
use vt_proto::wire::SetDrainedRequest;

use super::{replica_set::fetch_one, tablet::fetch};
use crate::{
    cli::Global,
    client::{Client, request_id},
    failure::{Failure, Kind},
    output,
    progress::Progress,
    views::tablet::Tablet,
};

/// A switchover takes seconds; somebody may have to catch up before.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(120);
const POLL_INTERVAL: Duration = Duration::from_millis(100);

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Move primaries away from a host, and let none come to it
    ///
    /// Its primaries hand over, planned, as soon as another tablet is fit; until then they stay and `vtctl replica-set show` says who is
    /// missing. Its tablets go on replicating and acknowledging. A failover makes one of them primary only where nobody else can be.
    #[command(after_help = "Example:\n  vtctl host drain db1.example --wait")]
    Drain {
        /// The host as its tablets name it, or the alias of one tablet
        #[arg(value_name = "HOST|TABLET")]
        host: String,
        /// Return once none of its tablets is primary
        #[arg(long)]
        wait: bool,
    },
    /// Let primaries come to a host again
    Undrain {
        /// The host as its tablets name it, or the alias of one tablet
        #[arg(value_name = "HOST|TABLET")]
        host: String,
    },
}

#[derive(Serialize)]
struct Drained {
    revision: u64,
    drained: bool,
    tablets: Vec<String>,
    /// Those of them that are still primary.
    primaries: Vec<String>,
}

pub async fn run(command: Command, global: &Global) -> anyhow::Result<()> {
    let mut client = global.client()?;
    let (host, drained, wait) = match command {
        Command::Drain { host, wait } => (host, true, wait),
        Command::Undrain { host } => (host, false, false),
    };
    let tablets = on_host(fetch(&mut client, String::new()).await?, &host);
    if tablets.is_empty() {
        let message = format!("no tablet is on host {host}, and none has this alias");
        return Err(Failure::new(Kind::NotFound, message)
            .next("`vtctl tablet list -o json` shows where their mysqlds are")
            .into());
    }
    let request = SetDrainedRequest {
        tablets: tablets.clone(),
        drained,
        request_id: request_id(),
    };
    let written = client
        .call(request, |mut admin, request| async move {
            admin.set_drained(request).await
        })
        .await?;
    let primaries = match wait {
        true => wait_until_moved(&mut client, global, &tablets).await?,
        false => primaries(&mut client, &tablets)
            .await?
            .into_iter()
            .map(|it| it.alias)
            .collect(),
    };
    let answer = Drained {
        revision: written.revision,
        drained,
        tablets,
        primaries,
    };
    output::print(global.output, &answer, text)
}

fn text(answer: &Drained) -> String {
    let tablets = answer.tablets.join(", ");
    match (answer.drained, answer.primaries.is_empty()) {
        (false, _) => format!("{tablets}: no longer drained"),
        (true, true) => format!("{tablets}: drained, none is primary"),
        (true, false) => format!(
            "{tablets}: drained; still primary: {}, see `vtctl replica-set show`",
            answer.primaries.join(", ")
        ),
    }
}

/// The aliases of the tablets of a host, or the one that is named.
fn on_host(tablets: Vec<Tablet>, host: &str) -> Vec<String> {
    let is_there = |tablet: &Tablet| {
        let address = tablet.mysql.as_deref();
        let at = address.and_then(|address| address.rsplit_once(':'));
        tablet.alias == host || at.is_some_and(|(at, _)| at == host)
    };
    let there = tablets.into_iter().filter(is_there);
    there.map(|tablet| tablet.alias).collect()
}

async fn primaries(client: &mut Client, aliases: &[String]) -> Result<Vec<Tablet>, Failure> {
    let mut tablets = fetch(client, String::new()).await?;
    tablets.retain(|tablet| tablet.role == "primary" && aliases.contains(&tablet.alias));
    Ok(tablets)
}

/// Says who has not handed over yet, and why; nobody is left in the end.
async fn wait_until_moved(
    client: &mut Client,
    global: &Global,
    aliases: &[String],
) -> anyhow::Result<Vec<String>> {
    let deadline = Instant::now() + global.timeout_or(DRAIN_TIMEOUT);
    let mut progress = Progress::quietly();
    loop {
        let left = primaries(client, aliases).await?;
        let Some(first) = left.first() else {
            return Ok(Vec::new());
        };
        let set = fetch_one(client, &first.replica_set).await?;
        let why = set.blocked.unwrap_or_else(|| set.phase.to_owned());
        let text = format!(
            "{} of {} tablets are primary yet; {}: {why}",
            left.len(),
            aliases.len(),
            first.alias
        );
        if Instant::now() >= deadline {
            return Err(Failure::new(Kind::Failed, text)
                .next("it stays drained and hands over as soon as it can; `vtctl host undrain` takes the order back")
                .into());
        }
        progress.step(&text);
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::tablet::tests::replica;

    #[test]
    fn a_host_is_named_by_its_tablets_or_by_one_of_them() {
        let at = |alias: &str, host: &str| {
            let mut view = replica(alias);
            let mysql = view.tablet.as_mut().unwrap().mysql.as_mut().unwrap();
            mysql.host = host.to_owned();
            Tablet::from(view)
        };
        let tablets = || {
            vec![
                at("zone1-100", "db1"),
                at("zone1-101", "db1"),
                at("zone1-102", "db10"),
            ]
        };
        assert_eq!(on_host(tablets(), "db1"), ["zone1-100", "zone1-101"]);
        assert_eq!(on_host(tablets(), "zone1-102"), ["zone1-102"]);
        assert!(on_host(tablets(), "db").is_empty());
    }
}
