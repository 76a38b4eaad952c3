//! `vtctl sql`: runs statements through a router, as any application would.

use std::{
    io::{self, IsTerminal as _, Read as _},
    time::Duration,
};

use anyhow::Context as _;

use crate::{
    cli::Global,
    failure::{Failure, Kind},
    login::{self, CONNECT_TIMEOUT, LoginArguments, connect},
    output::{self, Format},
    statements,
};

mod rows;

use rows::Outcome;

/// Statements wait for a moving primary; then this is long enough.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(120);
/// What standard input may hold.
const INPUT_BYTES_MAX: u64 = 16 << 20;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
The password comes from a client file (--defaults-file, mode 0600) or from VT_PASSWORD, never from the command line.
Without --router the local cluster's own file is read.

Examples:
  vtctl sql --keyspace commerce -e 'SELECT * FROM product'
  vtctl sql --keyspace commerce@replica -e 'SELECT COUNT(*) FROM customer' -o json
  vtctl sql --keyspace commerce < load.sql")]
pub struct Arguments {
    /// The statements; without it they are read from standard input
    #[arg(short, long, value_name = "STATEMENTS")]
    execute: Option<String>,
    /// The keyspace, as in commerce or commerce@replica
    #[arg(long, default_value = "")]
    keyspace: String,
    /// A router, as host:port
    #[arg(long, value_name = "ADDRESS")]
    router: Option<String>,
    #[command(flatten)]
    login: LoginArguments,
}

pub async fn run(arguments: Arguments, global: &Global) -> anyhow::Result<()> {
    let text = match &arguments.execute {
        Some(text) => text.clone(),
        None => read_stdin()?,
    };
    let statements = statements::split(&text).map_err(|error| Failure::new(Kind::Usage, error))?;
    let router = arguments.router.as_deref();
    let login = login::login(&arguments.login, router, global)?;
    let limit = global.timeout_or(STATEMENT_TIMEOUT);
    let mut connection = connect(&login, &arguments.keyspace, limit.min(CONNECT_TIMEOUT)).await?;
    let mut outcomes = Vec::new();
    for statement in statements {
        let outcome = tokio::time::timeout(limit, rows::execute(&mut connection, &statement)).await;
        let outcome = outcome.map_err(|_| {
            Failure::new(
                Kind::Failed,
                format!("no answer within {} s: {statement}", limit.as_secs_f32()),
            )
            .next("`vtctl replica-set list` says whether a primary serves")
        })?;
        let outcome =
            outcome.map_err(|error| Failure::new(Kind::Failed, format!("{error}: {statement}")))?;
        match global.output {
            Format::Table => outcome
                .iter()
                .try_for_each(|it| output::print_text(&it.text()))?,
            Format::Json => outcomes.extend(outcome),
        }
    }
    // The answers are here: a server that hangs on goodbye is no failure.
    let _ = tokio::time::timeout(CONNECT_TIMEOUT, connection.disconnect()).await;
    match global.output {
        Format::Table => Ok(()),
        Format::Json => output::print(Format::Json, &outcomes, |_: &Vec<Outcome>| String::new()),
    }
}

fn read_stdin() -> anyhow::Result<String> {
    if io::stdin().is_terminal() {
        return Err(Failure::new(Kind::Usage, "no statement is given")
            .next("use -e 'STATEMENT', pipe statements in, or connect with the `mysql` client for a session")
            .into());
    }
    let mut text = String::new();
    io::stdin()
        .take(INPUT_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .context("read standard input")?;
    if text.len() as u64 > INPUT_BYTES_MAX {
        return Err(
            Failure::new(Kind::Usage, "standard input holds more than 16 MiB")
                .next("use the `mysql` client")
                .into(),
        );
    }
    Ok(text)
}
