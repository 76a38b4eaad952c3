//! Writes through routers for a while, then says what was acknowledged, how long writes paused and what is missing. Never kills anything.
//!
//! `workload OPTION_FILE KEYSPACE SECONDS [PORT...]`: further ports are further routers on the same host.

use std::{env, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, bail};
use vt_tests::cluster::{
    login::Login,
    writer::{self, Writers},
};

/// Writers on each router.
const WRITERS_PER_ROUTER: usize = 4;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("workload: {error:#}");
            ExitCode::from(2)
        }
    }
}

async fn run() -> anyhow::Result<usize> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [file, keyspace, seconds, ports @ ..] = arguments.as_slice() else {
        bail!("usage: workload OPTION_FILE KEYSPACE SECONDS [PORT...]");
    };
    let login = Login::read(&PathBuf::from(file))?;
    let seconds: u64 = seconds.parse().context("read the number of seconds")?;
    let mut logins = vec![login.clone()];
    for port in ports {
        let port = port
            .parse()
            .with_context(|| format!("read the port {port}"))?;
        if port != login.port {
            logins.push(login.at_port(port));
        }
    }
    let writers = Writers::start(&logins, keyspace, WRITERS_PER_ROUTER).await?;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let ledger = writers.finish().await;
    let missing = writer::missing(&login, keyspace, &ledger).await?;
    for error in &ledger.errors {
        println!("  a client saw: {error}");
    }
    println!("acknowledged writes: {}", ledger.acknowledged.len());
    println!("writes with unknown outcome: {}", ledger.unknown.len());
    println!("writes refused: {}", ledger.refused);
    println!(
        "longest pause between writes: {} ms",
        ledger.longest_gap.as_millis()
    );
    println!("acknowledged writes lost: {}", missing.len());
    Ok(missing.len())
}
