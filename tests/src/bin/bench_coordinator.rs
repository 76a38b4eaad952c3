//! The coordinator beside etcd, measured in one run on one machine. Started by tests/bench/coordinator, which says what it needs.
//!
//! `bench_coordinator VT_COORDINATOR ETCD OUTPUT`: the two programs, and the file for the figures. A goal that is not met stands in the
//! table and does not change the exit code: absolute figures are not stable on shared machines.

use std::{env, path::PathBuf, process::ExitCode, str::FromStr, time::Duration};

use anyhow::{Context, bail};
use vt_tests::bench::{report, run, scale};

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> anyhow::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [coordinator, etcd, output] = arguments.as_slice() else {
        bail!("usage: bench_coordinator VT_COORDINATOR ETCD OUTPUT");
    };
    let directory = tempfile::tempdir().context("make a directory for the data")?;
    let clients = env::var("BENCH_CLIENTS").unwrap_or("1 16 128".to_owned());
    let clients = clients.split_whitespace().map(str::parse);
    let parts = env::var("BENCH_PARTS").unwrap_or_default();
    let plan = run::Plan {
        coordinator: PathBuf::from(coordinator),
        etcd: PathBuf::from(etcd),
        directory: directory.path().to_owned(),
        rounds: setting("BENCH_ROUNDS", 3)?,
        clients: clients.collect::<Result<_, _>>().context("BENCH_CLIENTS")?,
        window: Duration::from_millis(setting("BENCH_WINDOW_MS", 3_000)?),
        watchers: setting("BENCH_WATCHERS", 1_000)?,
        fan_outs: setting("BENCH_FAN_OUTS", 15)?,
        scale: scale::Size {
            tablets: setting("BENCH_TABLETS", 10_000)?,
            routers: setting("BENCH_ROUTERS", 1_000)?,
            switchovers: setting("BENCH_SWITCHOVERS", 100)?,
            period: Duration::from_millis(setting("BENCH_REPORT_MS", 900)?),
            window: Duration::from_millis(setting("BENCH_SCALE_MS", 30_000)?),
        },
        tls: setting("BENCH_TLS", 0)? != 0,
        parts: parts.split_whitespace().map(str::to_owned).collect(),
    };
    // One thread for all clients: they cost the same and leave as much of the machine as they can to the servers.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let figures = runtime.block_on(run::run(&plan))?;
    println!("{}", report::table(&figures, run::PEER));
    report::write(&PathBuf::from(output), &figures, run::PEER)?;
    run::say(&format!("figures in {output}"));
    Ok(())
}

fn setting<T: FromStr>(name: &str, default: T) -> anyhow::Result<T> {
    match env::var(name) {
        Ok(text) => text
            .parse()
            .map_err(|_| anyhow::anyhow!("{name}={text} is not a number")),
        Err(_) => Ok(default),
    }
}
