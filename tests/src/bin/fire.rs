//! Real coordinators under fire, by hand: `fire` plays a random plan, VT_FIRE_SEED the plan of that seed, VT_FIRE_SECONDS for how
//! long. VT_BIN_DIR is where vt-coordinator lies. Needs root; leaves nothing behind but, after a failure, what it says.

use std::{env, process::ExitCode};

use anyhow::Context;
use vt_tests::{
    bed::{leftovers, namespaces, programs},
    fire::inside::{self, Settings},
};

/// What is tried.
const PROGRAM: &str = "vt-coordinator";
/// Says that the namespaces are there.
const INSIDE: &str = "--inside";
/// Long enough to deal out most of what can happen, short enough for every run of the tests.
const SECONDS: u64 = 30;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let outcome = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => outside(),
        [INSIDE, seed, seconds, program, directory] => play(seed, seconds, program, directory),
        _ => Err(anyhow::anyhow!(
            "usage: fire, with VT_FIRE_SEED and VT_FIRE_SECONDS"
        )),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("fire: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn number(name: &str, otherwise: u64) -> anyhow::Result<u64> {
    match env::var(name) {
        Ok(text) if !text.is_empty() => text.parse().with_context(|| format!("read {name}")),
        _ => Ok(otherwise),
    }
}

fn outside() -> anyhow::Result<bool> {
    namespaces::check_machine()?;
    leftovers::remove();
    let seed = number("VT_FIRE_SEED", u64::from(rand::random::<u32>()))?;
    let seconds = number("VT_FIRE_SECONDS", SECONDS)?;
    let directory = leftovers::Directory::make()?;
    println!("fire: VT_FIRE_SEED={seed} VT_FIRE_SECONDS={seconds}");
    let arguments = [
        INSIDE.to_owned(),
        seed.to_string(),
        seconds.to_string(),
        programs::folder(&[PROGRAM])?
            .join(PROGRAM)
            .display()
            .to_string(),
        directory.path().display().to_string(),
    ];
    let status = namespaces::enter(&env::current_exe()?, &arguments);
    let passed = matches!(&status, Ok(status) if status.success());
    if !passed {
        let kept = directory.keep()?;
        println!(
            "fire: VT_FIRE_SEED={seed} failed; diary, history and logs are kept in {}",
            kept.display()
        );
    }
    status.map(|status| {
        if !passed {
            println!("fire: inside: {status}");
        }
        passed
    })
}

#[tokio::main]
async fn play(seed: &str, seconds: &str, program: &str, directory: &str) -> anyhow::Result<bool> {
    namespaces::end_with_stdin();
    let settings = Settings {
        seed: seed.parse()?,
        seconds: seconds.parse()?,
        program: program.into(),
        directory: directory.into(),
    };
    let found = inside::run(&settings).await?;
    for what in &found {
        println!("FOUND: {what}");
    }
    Ok(found.is_empty())
}
