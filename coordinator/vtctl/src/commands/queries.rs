//! `vtctl queries`.

use std::{collections::BTreeSet, time::Duration};

use clap::{Subcommand, ValueEnum};
use mysql_async::prelude::Queryable as _;
use serde::Serialize;

use super::tablet::fetch;
use crate::{
    cli::Global,
    failure::{Failure, Kind},
    local::files::ClientFile,
    login::{self, CONNECT_TIMEOUT, LoginArguments, connect},
    output,
    views::query::{self, Query},
};

/// A router answers from its memory.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Subcommand)]
pub enum Command {
    /// The kinds of statements that cost most, over all routers since each started
    ///
    /// Texts come without their literals. An administrator sees what everybody ran, other users see their own.
    #[command(after_help = "\
The password comes from a client file (--defaults-file, mode 0600) or from VT_PASSWORD, never from the command line.
Without either, and on the machine of a local cluster, that cluster's own file is read.

Examples:
  vtctl queries top
  vtctl queries top --by p99 --limit 5 --user dba
  vtctl queries top --router db1:3307 --router db2:3307 -o json")]
    Top(Top),
}

#[derive(Debug, clap::Args)]
pub struct Top {
    /// What the order goes by
    #[arg(long, value_enum, default_value_t)]
    by: By,
    /// How many are shown
    #[arg(long, value_name = "NUMBER", default_value_t = 20)]
    limit: usize,
    /// A router, as host:port; may be given several times [default: those of all tablets]
    #[arg(long, value_name = "ADDRESS")]
    router: Vec<String>,
    #[command(flatten)]
    login: LoginArguments,
}

/// What counts as most.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum By {
    /// All the time it took
    #[default]
    Total,
    Count,
    Errors,
    Rows,
    Average,
    P99,
}

#[derive(Debug, Serialize)]
struct Found {
    queries: Vec<Query>,
    routers: Vec<String>,
    /// Those that did not answer, and why.
    missing: Vec<Missing>,
}

#[derive(Debug, Serialize)]
struct Missing {
    router: String,
    error: String,
}

pub async fn run(command: Command, global: &Global) -> anyhow::Result<()> {
    let Command::Top(top) = command;
    let found = ask_all(&top, global).await?;
    for missing in &found.missing {
        output::note(&format!(
            "{} is left out: {}",
            missing.router, missing.error
        ));
    }
    output::print(global.output, &found, |found| {
        query::summary(&found.queries)
    })
}

async fn ask_all(top: &Top, global: &Global) -> anyhow::Result<Found> {
    let login = login::credentials(&top.login, !top.router.is_empty(), global)?;
    if login.user.is_empty() {
        return Err(Failure::new(Kind::Usage, "no user is named")
            .next("give --user NAME with VT_PASSWORD, or --defaults-file FILE")
            .into());
    }
    let mut routers = BTreeSet::from_iter(top.router.iter().cloned());
    if routers.is_empty() {
        let tablets = fetch(&mut global.client()?, String::new()).await?;
        routers.extend(tablets.into_iter().filter_map(|tablet| tablet.router));
    }
    let (mut all, mut answered, mut missing) = (Vec::new(), Vec::new(), Vec::new());
    for router in routers {
        match ask(&login, &router, global).await {
            Ok(queries) => {
                all.extend(queries);
                answered.push(router);
            }
            Err(error) => missing.push(Missing {
                error: format!("{error:#}"),
                router,
            }),
        }
    }
    if answered.is_empty() {
        let first = missing.first();
        let why = first.map_or_else(
            || "no tablet has a router".to_owned(),
            |missing| format!("{}: {}", missing.router, missing.error),
        );
        return Err(
            Failure::new(Kind::Unreachable, format!("no router answers; {why}"))
                .next("name routers that do by --router host:port")
                .into(),
        );
    }
    let mut queries = query::merge(all);
    queries.sort_by_key(|query| std::cmp::Reverse(top.by.of(query)));
    queries.truncate(top.limit);
    Ok(Found {
        queries,
        routers: answered,
        missing,
    })
}

async fn ask(login: &ClientFile, router: &str, global: &Global) -> anyhow::Result<Vec<Query>> {
    let (host, port) = login::host_and_port(router)?;
    let login = ClientFile {
        host,
        port,
        ..login.clone()
    };
    let limit = global.timeout_or(ANSWER_TIMEOUT);
    let mut connection = connect(&login, "", limit.min(CONNECT_TIMEOUT)).await?;
    let asked = connection.query::<mysql_async::Row, _>("SHOW VITRAIL QUERIES");
    let rows = tokio::time::timeout(limit, asked)
        .await
        .map_err(|_| anyhow::anyhow!("no answer within {} s", limit.as_secs_f32()))??;
    // The answer is here: a router that hangs on goodbye is no failure.
    let _ = tokio::time::timeout(CONNECT_TIMEOUT, connection.disconnect()).await;
    rows.into_iter().map(Query::try_from).collect()
}

impl By {
    fn of(self, query: &Query) -> u64 {
        match self {
            By::Total => query.total_us,
            By::Count => query.count,
            By::Errors => query.errors,
            By::Rows => query.rows.saturating_add(query.affected_rows),
            By::Average => query.average_us,
            By::P99 => query.p99_us,
        }
    }
}
