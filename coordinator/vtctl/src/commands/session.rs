//! `vtctl session`.

use clap::Subcommand;
use mysql_async::prelude::Queryable as _;
use serde::Serialize;

use crate::{
    cli::Global,
    failure::{Failure, Kind},
    login::{self, CONNECT_TIMEOUT, LoginArguments, connect},
    output,
    routers::{ANSWER_TIMEOUT, Missing, RoutersArguments, ask_all},
    views::session::{self, Session},
};

const ER_NO_SUCH_THREAD: u16 = 1094;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Who is connected to routers, what runs, and what each session holds; longest open transaction first
    ///
    /// An administrator sees everybody, other users see their own sessions. Texts come as they were sent, with their literals.
    #[command(after_help = "\
The password comes from a client file (--defaults-file, mode 0600) or from VT_PASSWORD, never from the command line.
Without either, and on the machine of a local cluster, that cluster's own file is read.

Examples:
  vtctl session list
  vtctl session list --holding --limit 5
  vtctl session list --of app --router db1:3307 -o json")]
    List(List),
    /// End a session at a router, or what it runs
    #[command(after_help = "\
Examples:
  vtctl session kill db1:3307 42
  vtctl session kill db1:3307 42 --query --user dba")]
    Kill(KillArguments),
}

#[derive(Debug, clap::Args)]
pub struct List {
    /// Only the sessions of this user
    #[arg(long, value_name = "USER")]
    of: Option<String>,
    /// Only sessions that keep a connection to a server between statements
    #[arg(long)]
    holding: bool,
    /// How many are shown
    #[arg(long, value_name = "NUMBER", default_value_t = 50)]
    limit: usize,
    #[command(flatten)]
    routers: RoutersArguments,
}

#[derive(Debug, clap::Args)]
pub struct KillArguments {
    /// Its router, as host:port
    router: String,
    /// Its number there, as in `vtctl session list`
    id: u32,
    /// Only what it runs now
    #[arg(long)]
    query: bool,
    #[command(flatten)]
    login: LoginArguments,
}

#[derive(Debug, Serialize)]
struct Found {
    sessions: Vec<Session>,
    /// How many there were to choose from.
    count: usize,
    /// Routers that did not answer, and why.
    missing: Vec<Missing>,
}

#[derive(Debug, Serialize)]
struct Killed {
    router: String,
    id: u32,
    /// `session` or `query`
    what: &'static str,
}

pub async fn run(command: Command, global: &Global) -> anyhow::Result<()> {
    match command {
        Command::List(list) => run_list(&list, global).await,
        Command::Kill(arguments) => run_kill(arguments, global).await,
    }
}

async fn run_list(list: &List, global: &Global) -> anyhow::Result<()> {
    let answers = ask_all(&list.routers, "SHOW VITRAIL SESSIONS", global).await?;
    let mut sessions = Vec::new();
    for (router, rows) in answers.rows {
        for row in rows {
            sessions.push(Session::read(&router, row)?);
        }
    }
    let is_wanted = |session: &Session| {
        list.of.as_ref().is_none_or(|user| session.user == *user)
            && (!list.holding || session.kept_for.is_some())
    };
    sessions.retain(is_wanted);
    let count = sessions.len();
    session::sort(&mut sessions);
    sessions.truncate(list.limit);
    let found = Found {
        sessions,
        count,
        missing: answers.missing,
    };
    output::print(global.output, &found, |found| {
        session::summary(&found.sessions, found.count)
    })
}

async fn run_kill(arguments: KillArguments, global: &Global) -> anyhow::Result<()> {
    let KillArguments {
        router, id, query, ..
    } = &arguments;
    let login = login::login(&arguments.login, Some(router), global)?;
    let limit = global.timeout_or(ANSWER_TIMEOUT);
    let mut connection = connect(&login, "", limit.min(CONNECT_TIMEOUT)).await?;
    let what = if *query { "query" } else { "session" };
    let word = if *query { "QUERY" } else { "CONNECTION" };
    let told = tokio::time::timeout(limit, connection.query_drop(format!("KILL {word} {id}")))
        .await
        .map_err(|_| anyhow::anyhow!("no answer within {} s", limit.as_secs_f32()))?;
    match told {
        Ok(()) => {}
        Err(mysql_async::Error::Server(error)) => {
            let kind = match error.code {
                ER_NO_SUCH_THREAD => Kind::NotFound,
                _ => Kind::Refused,
            };
            return Err(Failure::new(
                kind,
                format!("the router at {router} refuses: {}", error.message),
            )
            .next(format!(
                "`vtctl session list --router {router}` shows who is there"
            ))
            .into());
        }
        Err(error) => return Err(error.into()),
    }
    let _ = tokio::time::timeout(CONNECT_TIMEOUT, connection.disconnect()).await;
    let killed = Killed {
        router: router.clone(),
        id: *id,
        what,
    };
    output::print(global.output, &killed, |killed| {
        format!(
            "{} {} at {} is told to end",
            killed.what, killed.id, killed.router
        )
    })
}
