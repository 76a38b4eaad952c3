//! vtctl, the operator's tool: writes intent to the coordinators, shows what they know, runs a cluster on this machine.
//! Of the project's crates it knows the vocabulary and how programs trust each other alone; whatever it cannot do, the admin API lacks.

use std::{
    env, panic,
    process::{self, ExitCode},
};

use clap::Parser as _;

mod cli;
mod client;
mod commands;
mod failure;
mod local;
mod login;
mod output;
mod password;
mod pki;
mod progress;
mod routers;
mod statements;
mod tail;
mod topology;
mod views;

fn main() -> ExitCode {
    end_at_panics();
    let words: Vec<_> = env::args_os().collect();
    if words
        .get(1)
        .is_some_and(|word| word == local::process::DETACH_COMMAND)
    {
        return report(&local::process::detach(&words[2..]));
    }
    // Mistakes on the command line end here, with clap's own message and exit code 2.
    let cli = cli::Cli::parse_from(words);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(commands::run(cli.command, &cli.global)),
        Err(error) => Err(anyhow::Error::new(error).context("start the runtime")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&error),
    }
}

fn report(error: &anyhow::Error) -> ExitCode {
    output::note(&failure::describe(error));
    ExitCode::from(failure::exit_code(error))
}

/// A panic in any task ends the program, as one here would: half of a command is never taken for all of it.
fn end_at_panics() {
    let say = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        say(panic);
        process::abort();
    }));
}
