//! Asks routers as an application would, several of them side by side.

use std::{collections::BTreeSet, time::Duration};

use mysql_async::{Row, prelude::Queryable as _};
use serde::Serialize;
use tokio::task::JoinSet;

use crate::{
    cli::Global,
    commands::tablet::fetch,
    failure::{Failure, Kind},
    local::files::ClientFile,
    login::{self, CONNECT_TIMEOUT, LoginArguments, connect},
    output,
};

/// A router answers from its memory.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// So many are asked at a time.
const AT_A_TIME: usize = 32;

/// Which routers are asked, and as whom.
#[derive(Debug, clap::Args)]
pub struct RoutersArguments {
    /// A router, as host:port; may be given several times [default: those of all tablets]
    #[arg(long, value_name = "ADDRESS")]
    router: Vec<String>,
    #[command(flatten)]
    login: LoginArguments,
}

/// What they said.
#[derive(Debug)]
pub struct Answers {
    /// By router, each in its order.
    pub rows: Vec<(String, Vec<Row>)>,
    pub missing: Vec<Missing>,
}

/// One that did not answer, and why.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Missing {
    router: String,
    error: String,
}

/// Asks all of them the same. Fails if none answers; who does not is told to people.
pub async fn ask_all(
    arguments: &RoutersArguments,
    sql: &'static str,
    global: &Global,
) -> anyhow::Result<Answers> {
    let login = login::credentials(&arguments.login, !arguments.router.is_empty(), global)?;
    if login.user.is_empty() {
        return Err(Failure::new(Kind::Usage, "no user is named")
            .next("give --user NAME with VT_PASSWORD, or --defaults-file FILE")
            .into());
    }
    let mut routers = BTreeSet::from_iter(arguments.router.iter().cloned());
    if routers.is_empty() {
        let tablets = fetch(&mut global.client()?, String::new()).await?;
        routers.extend(tablets.into_iter().filter_map(|tablet| tablet.router));
    }
    let limit = global.timeout_or(ANSWER_TIMEOUT);
    let (mut rows, mut missing) = (Vec::new(), Vec::new());
    let mut asked = JoinSet::new();
    let mut waiting = routers.into_iter();
    loop {
        while asked.len() < AT_A_TIME
            && let Some(router) = waiting.next()
        {
            let login = login.clone();
            asked.spawn(async move {
                let answer = ask(login, &router, sql, limit).await;
                (router, answer)
            });
        }
        let Some(ended) = asked.join_next().await else {
            break;
        };
        match ended? {
            (router, Ok(answer)) => rows.push((router, answer)),
            (router, Err(error)) => missing.push(Missing {
                error: format!("{error:#}"),
                router,
            }),
        }
    }
    rows.sort_by(|(one, _), (other, _)| one.cmp(other));
    missing.sort();
    if rows.is_empty() {
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
    for Missing { router, error } in &missing {
        output::note(&format!("{router} is left out: {error}"));
    }
    Ok(Answers { rows, missing })
}

async fn ask(
    login: ClientFile,
    router: &str,
    sql: &str,
    limit: Duration,
) -> anyhow::Result<Vec<Row>> {
    let (host, port) = login::host_and_port(router)?;
    let login = ClientFile {
        host,
        port,
        ..login
    };
    let mut connection = connect(&login, "", limit.min(CONNECT_TIMEOUT)).await?;
    let rows = tokio::time::timeout(limit, connection.query(sql))
        .await
        .map_err(|_| anyhow::anyhow!("no answer within {} s", limit.as_secs_f32()))??;
    // The answer is here: a router that hangs on goodbye is no failure.
    let _ = tokio::time::timeout(CONNECT_TIMEOUT, connection.disconnect()).await;
    Ok(rows)
}
