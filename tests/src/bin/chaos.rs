//! Whole clusters on hosts that fail. `chaos bench [TRIALS [EVENT...]]` tells how long clients wait; `chaos matrix [ROW...]` plays the
//! rows of the fault matrix; `chaos soak MINUTES [SEED]` draws from them. VT_BIN_DIR is where the programs lie, VT_MYSQL_PREFIX where MySQL lies. Needs root; leaves nothing behind
//! but, after a failure, what everybody said.

use std::{env, fs, path::Path, process::ExitCode};

use anyhow::{Context, bail, ensure};
use vt_tests::{
    bed::{leftovers, namespaces, programs},
    chaos::{bed::Bed, bench, matrix, row::Row, soak},
};

/// What is tried.
const PROGRAMS: &[&str] = &["vt-coordinator", "vt-agent", "vtctl"];
/// Says that the namespaces are there.
const INSIDE: &str = "--inside";
/// Trials of each event, unless another number is given.
const TRIALS: usize = 20;
/// What can be asked for.
const USAGE: &str = "usage: chaos bench [TRIALS [EVENT...]] | chaos matrix [--list | --fresh | --unhurried] [ROW...] | chaos soak MINUTES [SEED]";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        [INSIDE, ..] => play(&arguments[1..]),
        ["bench", ..] => run_bench(&arguments[1..]),
        ["matrix", "--list"] => {
            print!("{}", matrix::list());
            Ok(true)
        }
        // A bed for each row.
        ["matrix", "--fresh", ..] => run_matrix(&arguments[2..], true, false),
        // What takes too long is told, and is no failure.
        ["matrix", "--unhurried", ..] => run_matrix(&arguments[2..], false, true),
        ["matrix", ..] => run_matrix(&arguments[1..], false, false),
        ["soak", minutes] => run_soak(minutes, &rand::random::<u32>().to_string()),
        ["soak", minutes, seed] => run_soak(minutes, seed),
        _ => Err(anyhow::anyhow!(USAGE)),
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

/// Each event on a bed of its own: a fresh cluster shows what an old one hides.
fn run_bench(arguments: &[String]) -> anyhow::Result<bool> {
    let (trials, events) = match arguments.split_first() {
        Some((trials, events)) => (trials.parse().context("read TRIALS")?, events),
        None => (TRIALS, arguments),
    };
    let known = bench::names();
    for event in events {
        ensure!(
            known.contains(&event.as_str()),
            "there is no event {event}; there is: {}",
            known.join(", ")
        );
    }
    let chosen = |name: &&&str| events.is_empty() || events.iter().any(|it| it == *name);
    let mut lines = Vec::new();
    for event in known.iter().filter(chosen) {
        let trials = trials.to_string();
        let found = on_a_bed(&["bench", &trials, event])?;
        let none = bench::Line::not_played(event);
        lines.push(found.into_iter().next().unwrap_or(none));
    }
    println!("{}", bench::table(&lines));
    fs::write("failover.json", serde_json::to_string_pretty(&lines)?)?;
    Ok(lines.iter().all(bench::Line::is_good))
}

/// Rows share a bed until one fails, unless each is to have a fresh one.
fn run_matrix(arguments: &[String], is_fresh: bool, is_unhurried: bool) -> anyhow::Result<bool> {
    let mut rows = &matrix::chosen(arguments)?[..];
    let mut lines: Vec<matrix::Line> = Vec::new();
    while let Some((first, _)) = rows.split_first() {
        let some = if is_fresh { &rows[..1] } else { rows };
        let numbers: Vec<_> = some.iter().map(|row: &&Row| row.number).collect();
        let mut found: Vec<matrix::Line> = on_a_bed(&[&["matrix"], &numbers[..]].concat())?;
        if found.is_empty() {
            let none = "its bed ended before it: see what was said above";
            found.push(matrix::Line::not_played(first, none));
        }
        rows = &rows[found.len()..];
        lines.append(&mut found);
        // So that a run that is stopped has shown what it has.
        fs::write("chaos.json", serde_json::to_string_pretty(&lines)?)?;
    }
    println!("{}\n{}", matrix::table(&lines), matrix::summary(&lines));
    let is_good = |line: &matrix::Line| line.is_good() || is_unhurried && line.wrong.is_empty();
    Ok(lines.iter().all(is_good))
}

fn run_soak(minutes: &str, seed: &str) -> anyhow::Result<bool> {
    let number: u64 = seed.parse().context("read SEED")?;
    println!("chaos: soak of {minutes} minutes, seed {number}");
    let found: Vec<soak::Line> = on_a_bed(&["soak", minutes, seed])?;
    let line = found.first().context("its bed ended before it")?;
    println!("{}", soak::summary(line));
    fs::write("soak.json", serde_json::to_string_pretty(line)?)?;
    Ok(line.wrong.is_empty())
}

/// Runs this program in namespaces of its own; what it writes down there is the answer.
fn on_a_bed<T: serde::de::DeserializeOwned>(arguments: &[&str]) -> anyhow::Result<Vec<T>> {
    namespaces::check_machine()?;
    leftovers::remove();
    let directory = leftovers::Directory::make()?;
    let mut inside = vec![
        INSIDE.to_owned(),
        programs::folder(PROGRAMS)?.display().to_string(),
        directory.path().display().to_string(),
    ];
    inside.extend(arguments.iter().map(|it| (*it).to_owned()));
    let status = namespaces::enter(&env::current_exe()?, &inside);
    let found = matrix::lines(&directory.path().join(FOUND))?;
    if !matches!(&status, Ok(status) if status.success()) {
        let kept = directory.keep()?;
        println!("chaos: what everybody said is kept in {}", kept.display());
    }
    status?;
    Ok(found)
}

/// A line for everything that was played.
const FOUND: &str = "found";

#[tokio::main]
async fn play(arguments: &[String]) -> anyhow::Result<bool> {
    namespaces::end_with_stdin();
    let [programs, directory, what, rest @ ..] = arguments else {
        bail!("nothing to do");
    };
    let directory = Path::new(directory);
    let found = directory.join(FOUND);
    let mut bed = Bed::make(Path::new(programs), directory).await?;
    let all_kept = match (what.as_str(), rest) {
        ("bench", [trials, event]) => bench::run(&mut bed, event, trials.parse()?, &found).await,
        ("soak", [minutes, seed]) => {
            let minutes = minutes.parse().context("read MINUTES")?;
            soak::run(&mut bed, minutes, seed.parse()?, &found).await
        }
        ("matrix", rows) => matrix::run(&mut bed, &matrix::chosen(rows)?, &found).await,
        _ => bail!(USAGE),
    };
    if !matches!(all_kept, Ok(true))
        && let Err(error) = bed.keep_logs()
    {
        println!("chaos: the binary logs are not kept: {error:#}");
    }
    all_kept
}
