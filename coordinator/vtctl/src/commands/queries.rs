//! `vtctl queries`.

use clap::{Subcommand, ValueEnum};
use serde::Serialize;

use crate::{
    cli::Global,
    output,
    routers::{Missing, RoutersArguments, ask_all},
    views::query::{self, Query},
};

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
    #[command(flatten)]
    routers: RoutersArguments,
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

pub async fn run(command: Command, global: &Global) -> anyhow::Result<()> {
    let Command::Top(top) = command;
    let answers = ask_all(&top.routers, "SHOW VITRAIL QUERIES", global).await?;
    let (mut all, mut routers) = (Vec::new(), Vec::new());
    for (router, rows) in answers.rows {
        for row in rows {
            all.push(Query::try_from(row)?);
        }
        routers.push(router);
    }
    let mut queries = query::merge(all);
    queries.sort_by_key(|query| std::cmp::Reverse(top.by.of(query)));
    queries.truncate(top.limit);
    let found = Found {
        queries,
        routers,
        missing: answers.missing,
    };
    output::print(global.output, &found, |found| {
        query::summary(&found.queries)
    })
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
