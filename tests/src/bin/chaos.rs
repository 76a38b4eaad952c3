//! Whole clusters on hosts that fail: `chaos bench [TRIALS [EVENT...]]` tells how long clients wait. VT_BIN_DIR is where the programs
//! lie, VT_MYSQL_PREFIX where MySQL lies. Needs root; leaves nothing behind but, after a failure, what everybody said.

use std::{env, path::Path, process::ExitCode};

use anyhow::{Context, bail, ensure};
use vt_tests::{
    bed::{leftovers, namespaces, programs},
    chaos::{bed::Bed, bench},
};

/// What is tried.
const PROGRAMS: &[&str] = &["vt-coordinator", "vt-agent", "vtctl"];
/// Says that the namespaces are there.
const INSIDE: &str = "--inside";
/// Trials of each event, unless another number is given.
const TRIALS: usize = 20;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let outcome = match arguments.split_first() {
        Some((first, rest)) if first == INSIDE => play(rest),
        Some(_) => outside(&arguments),
        None => Err(anyhow::anyhow!("usage: chaos bench [TRIALS [EVENT...]]")),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("chaos: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn outside(arguments: &[String]) -> anyhow::Result<bool> {
    namespaces::check_machine()?;
    leftovers::remove();
    let directory = leftovers::Directory::make()?;
    let mut inside = vec![
        INSIDE.to_owned(),
        programs::folder(PROGRAMS)?.display().to_string(),
        directory.path().display().to_string(),
        env::current_dir()?.display().to_string(),
    ];
    inside.extend_from_slice(arguments);
    let status = namespaces::enter(&env::current_exe()?, &inside);
    let passed = matches!(&status, Ok(status) if status.success());
    if !passed {
        let kept = directory.keep()?;
        println!("chaos: what everybody said is kept in {}", kept.display());
    }
    status.map(|_| passed)
}

#[tokio::main]
async fn play(arguments: &[String]) -> anyhow::Result<bool> {
    namespaces::end_with_stdin();
    let [programs, directory, results, what @ ..] = arguments else {
        bail!("nothing to do");
    };
    let file = Path::new(results).join("failover.json");
    match what {
        [what, rest @ ..] if what == "bench" => {
            let (trials, events) = match rest.split_first() {
                Some((trials, events)) => (trials.parse().context("read TRIALS")?, events),
                None => (TRIALS, rest),
            };
            let known = bench::names();
            for event in events {
                ensure!(
                    known.contains(&event.as_str()),
                    "there is no event {event}; there is: {}",
                    known.join(", ")
                );
            }
            let mut bed = Bed::make(Path::new(programs), Path::new(directory)).await?;
            bench::run(&mut bed, events, trials, &file).await
        }
        _ => bail!("usage: chaos bench [TRIALS [EVENT...]]"),
    }
}
