//! `vtctl lost`.

use clap::Subcommand;
use serde::Serialize;
use vt_proto::wire::{ForgetLostRequest, ReadLostRequest};

use super::{replica_set::fetch_one, tablet::fetch};
use crate::{
    cli::Global,
    client::{Client, request_id},
    failure::{Failure, Kind},
    output,
    tail::{EVENT_BYTES_MAX, Limits, Reader},
    views::{
        lost::{Lost, LostTransactions, text},
        tail::{self, Tail},
    },
};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// List what is kept, on which host and where
    ///
    /// Transactions that a primary had written when it died, and that nobody acknowledged: no client was told that they were committed.
    /// They are cut off when the former primary returns, kept on its host, and never replayed by themselves. `vtctl lost show` reads
    /// them; when you have decided about them, `vtctl lost forget` removes them.
    #[command(after_help = "Example:\n  vtctl lost list main")]
    List {
        /// Only of this replica set
        replica_set: Option<String>,
    },
    /// Show the transactions that a tablet's host keeps: statements, and rows with their values
    ///
    /// Columns are numbered from @1 where the binary log does not name them, as MySQL has it by default. What is no readable text is
    /// shown in hex. Needs a certificate of the role operator: these are rows of users.
    #[command(after_help = "Example:\n  vtctl lost show zone1-100 -o json")]
    Show {
        /// Its alias, as in zone1-100
        tablet: String,
        /// Which of several, by the last part of its path in `vtctl lost list`
        directory: Option<String>,
        /// At most so many transactions
        #[arg(long, default_value_t = 100)]
        transactions: usize,
        /// At most so many rows of all of them together
        #[arg(long, default_value_t = 1000)]
        rows: usize,
    },
    /// Remove for good what a tablet's host keeps
    ///
    /// The audit tells of it.
    #[command(
        after_help = "Example:\n  vtctl lost forget zone1-100 3-3e11fa47-71ca-11e1-9e33-c80aa9429562 \\\n    --gtids 3e11fa47-71ca-11e1-9e33-c80aa9429562:23-25"
    )]
    Forget {
        /// Its alias, as in zone1-100
        tablet: String,
        /// The last part of its path in `vtctl lost list`
        directory: String,
        /// What it holds, exactly: nothing else is removed
        #[arg(long)]
        gtids: String,
    },
}

#[derive(Serialize)]
struct Forgotten {
    revision: u64,
    tablet: String,
    directory: String,
    gtids: String,
}

pub async fn run(command: Command, global: &Global) -> anyhow::Result<()> {
    let mut client = global.client()?;
    match command {
        Command::List { replica_set } => {
            if let Some(name) = &replica_set {
                fetch_one(&mut client, name).await?;
            }
            let tablets = fetch(&mut client, String::new()).await?;
            let lost = Lost::of(&tablets, replica_set.as_deref());
            output::print(global.output, &lost, text)
        }
        Command::Show {
            tablet,
            directory,
            transactions,
            rows,
        } => {
            let limits = Limits { transactions, rows };
            let kept = find(&mut client, &tablet, directory.as_deref()).await?;
            let tail = read(&mut client, tablet, &kept, limits).await?;
            output::print(global.output, &tail, tail::text)
        }
        Command::Forget {
            tablet,
            directory,
            gtids,
        } => {
            let forgotten = forget(&mut client, tablet, directory, gtids).await?;
            output::print(global.output, &forgotten, |it| {
                format!("{}: {} removed", it.tablet, it.gtids)
            })
        }
    }
}

fn name(kept: &LostTransactions) -> String {
    let last = kept.directory.rsplit('/').next();
    last.unwrap_or_default().to_owned()
}

/// The one that is meant.
async fn find(
    client: &mut Client,
    tablet: &str,
    directory: Option<&str>,
) -> Result<LostTransactions, Failure> {
    let not_found = |what: String| {
        Failure::new(Kind::NotFound, what).next("`vtctl lost list` shows what is kept, and where")
    };
    let found = fetch(client, tablet.to_owned()).await?.into_iter().next();
    let Some(report) = found.and_then(|it| it.report) else {
        return Err(not_found(format!(
            "there is no tablet {tablet}, or its agent was not heard"
        )));
    };
    let names: Vec<String> = report.lost.iter().map(name).collect();
    let wanted = directory.map(|path| path.rsplit('/').next().unwrap_or_default());
    let is_wanted = |kept: &LostTransactions| wanted.is_none_or(|wanted| wanted == name(kept));
    let mut found = report.lost.into_iter().filter(is_wanted);
    match (found.next(), found.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => Err(not_found(format!(
            "the host of {tablet} keeps nothing like this"
        ))),
        (Some(_), Some(_)) => Err(Failure::new(
            Kind::Usage,
            format!("the host of {tablet} keeps several"),
        )
        .next(format!("name one: {}", names.join(", ")))),
    }
}

/// Piece by piece, as far as it is wanted.
async fn read(
    client: &mut Client,
    tablet: String,
    kept: &LostTransactions,
    limits: Limits,
) -> Result<Tail, Failure> {
    let mut reader = Reader::new(limits);
    let (mut offset, mut bytes, mut broken) = (0, Vec::new(), None);
    while broken.is_none() && !reader.is_full() && bytes.len() <= EVENT_BYTES_MAX {
        let request = ReadLostRequest {
            tablet: tablet.clone(),
            directory: name(kept),
            offset,
        };
        let piece = client
            .call(request, |mut admin, request| async move {
                admin.read_lost(request).await
            })
            .await?;
        if piece.content.is_empty() {
            break;
        }
        offset += piece.content.len() as u64;
        bytes.extend(piece.content);
        match reader.read(&bytes) {
            Ok(used) => drop(bytes.drain(..used)),
            Err(error) => broken = Some(error.to_string()),
        }
    }
    let ends_early = !reader.is_full() && (!bytes.is_empty() || !reader.ends_whole());
    let incomplete = match broken {
        Some(why) => Some(format!(
            "{why}; mysqlbinlog --verbose on tail.binlog in {} may read on",
            kept.directory
        )),
        None => ends_early.then(|| "the host died while it wrote the last transaction".to_owned()),
    };
    let shown = reader.transactions.len() as u64;
    Ok(Tail {
        tablet,
        directory: kept.directory.clone(),
        gtids: kept.gtids.clone(),
        transactions_left_out: kept.transactions.saturating_sub(shown),
        rows_left_out: reader.rows_left_out,
        transactions: reader.transactions,
        incomplete,
    })
}

async fn forget(
    client: &mut Client,
    tablet: String,
    directory: String,
    gtids: String,
) -> Result<Forgotten, Failure> {
    let request = ForgetLostRequest {
        tablet: tablet.clone(),
        directory: directory.clone(),
        gtids: gtids.clone(),
        request_id: request_id(),
    };
    let written = client
        .call(request, |mut admin, request| async move {
            admin.forget_lost(request).await
        })
        .await?;
    Ok(Forgotten {
        revision: written.revision,
        tablet,
        directory,
        gtids,
    })
}
