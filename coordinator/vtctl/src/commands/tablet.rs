//! `vtctl tablet`.

use clap::Subcommand;
use vt_proto::wire::ListTabletsRequest;

use crate::{
    cli::Global,
    client::Client,
    failure::{Failure, Kind},
    output::{self, list, or_dash},
    views::tablet::{Report, Tablet, table_across_sets},
};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// List all tablets
    List,
    /// Show one tablet: what it reports and what is desired of it
    Show {
        /// Its alias, as in zone1-100
        alias: String,
    },
}

pub async fn run(command: Command, global: &Global) -> anyhow::Result<()> {
    let mut client = global.client()?;
    match command {
        Command::List => {
            let tablets = fetch(&mut client, String::new()).await?;
            output::print(global.output, &tablets, |tablets| {
                table_across_sets(tablets)
            })
        }
        Command::Show { alias } => {
            let tablets = fetch(&mut client, alias.clone()).await?;
            let tablet = tablets.into_iter().next().ok_or_else(|| {
                Failure::new(Kind::NotFound, format!("there is no tablet {alias}"))
                    .next("`vtctl tablet list` shows those that ever reported")
            })?;
            output::print(global.output, &tablet, text)
        }
    }
}

/// The tablets of that alias, or all.
pub async fn fetch(client: &mut Client, alias: String) -> Result<Vec<Tablet>, Failure> {
    let request = ListTabletsRequest {
        stale: false,
        alias,
    };
    let answer = client
        .call(request, |mut admin, request| async move {
            admin.list_tablets(request).await
        })
        .await?;
    Ok(answer.tablets.into_iter().map(Tablet::from).collect())
}

fn text(tablet: &Tablet) -> String {
    let report = tablet.report.as_ref();
    let of_report = |get: fn(&Report) -> Option<String>| or_dash(report.and_then(get));
    let desired = tablet.desired.as_ref().map(|it| {
        let source = it
            .source
            .as_ref()
            .map_or_else(String::new, |source| format!(" of {source}"));
        format!(
            "{}{source}, epoch {}, generation {}",
            it.goal, it.epoch, it.generation
        )
    });
    list(&[
        ("tablet", tablet.alias.clone()),
        ("replica set", tablet.replica_set.clone()),
        ("kind", tablet.kind.to_owned()),
        (
            "role",
            format!(
                "{}{}{}",
                tablet.role,
                if tablet.acker { " (acker)" } else { "" },
                if tablet.drained { ", drained" } else { "" }
            ),
        ),
        ("mysqld at", or_dash(tablet.mysql.as_ref())),
        ("router at", or_dash(tablet.router.as_ref())),
        (
            "connected",
            if tablet.connected { "yes" } else { "no" }.to_owned(),
        ),
        (
            "reported",
            or_dash(
                tablet
                    .report_age_ms
                    .map(|age| format!("{} ago", output::duration_text(age))),
            ),
        ),
        ("mysqld", of_report(|it| Some(it.mysqld.to_owned()))),
        ("desired", or_dash(desired)),
        (
            "acting on",
            of_report(|it| {
                Some(format!(
                    "epoch {}, generation {}",
                    it.promised_epoch, it.generation
                ))
            }),
        ),
        ("GTID executed", of_report(|it| it.gtid_executed.clone())),
        ("GTID received", of_report(|it| it.gtid_received.clone())),
        ("server uuid", of_report(|it| it.server_uuid.clone())),
        (
            "disk free",
            of_report(|it| {
                it.disk_free_bytes
                    .map(|bytes| format!("{} MiB", bytes >> 20))
            }),
        ),
        ("disk written", of_report(disk_written)),
        ("row written", of_report(row_written)),
        ("blocked", or_dash(tablet.trouble())),
    ])
}

fn disk_written(report: &Report) -> Option<String> {
    let probe = report.disk_probe.as_ref()?;
    let ago = probe.success_age_ms.map(output::duration_text);
    Some(format!("{}, {} ago", probe.state, or_dash(ago)))
}

fn row_written(report: &Report) -> Option<String> {
    let ago = report.write_probe.as_ref()?.success_age_ms?;
    Some(format!("{} ago", output::duration_text(ago)))
}
