//! The program `vt-agent`: reads the command line and calls the library. It decides nothing.

use std::{
    io::{self, BufRead, IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use vt_agent::{
    app,
    config::{self, Config},
    guard::{self, GuardConfig},
    logging,
    router::users,
};

/// The exit code of mistakes in the command line or the configuration.
const EXIT_CONFIG: u8 = 2;

/// Supervises this host's mysqld and routes SQL to the cluster.
#[derive(Parser)]
#[command(name = "vt-agent", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Option<ConfigArgs>,
}

#[derive(Args)]
struct ConfigArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = "/etc/vitrail/agent.toml")]
    config: PathBuf,
}

#[derive(Subcommand)]
enum Command {
    /// Run the agent (the default)
    Run(ConfigArgs),
    /// Run the parent of mysqld; started by the agent or by vt-mysqld.service
    Guard(ConfigArgs),
    /// Check the configuration and print it without secrets
    CheckConfig(ConfigArgs),
    /// Read a password on standard input and print the entry of a users file
    HashPassword {
        /// The user's name
        #[arg(long, default_value = "app")]
        name: String,
    },
}

fn main() -> ExitCode {
    logging::end_at_panics();
    let cli = Cli::parse();
    let command = cli.command.unwrap_or_else(|| {
        Command::Run(cli.run.unwrap_or_else(|| ConfigArgs {
            config: PathBuf::from("/etc/vitrail/agent.toml"),
        }))
    });
    match command {
        Command::Run(args) => with_config(args, run),
        Command::Guard(args) => with_config(args, run_guard),
        Command::CheckConfig(args) => {
            with_config(args, |config, _| print(&format!("{config:#?}\n")))
        }
        Command::HashPassword { name } => finish(hash_password(&name)),
    }
}

fn with_config(
    args: ConfigArgs,
    then: impl FnOnce(Config, PathBuf) -> anyhow::Result<()>,
) -> ExitCode {
    match config::load(&args.config) {
        Ok(config) => finish(then(config, args.config)),
        Err(errors) => {
            eprintln!("{errors}");
            ExitCode::from(EXIT_CONFIG)
        }
    }
}

fn finish(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vt-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(config: Config, path: PathBuf) -> anyhow::Result<()> {
    logging::start(&config.log)?;
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .enable_all()
        .build()
        .context("the runtime cannot be started")?
        .block_on(Box::pin(app::run(config, path)))
}

/// For control alone; the router has threads of its own.
const CONTROL_THREADS: usize = 2;

fn run_guard(config: Config, _path: PathBuf) -> anyhow::Result<()> {
    let Some((_, mysqld)) = &config.tablet else {
        anyhow::bail!("there is no [mysqld] in the configuration, so there is nothing to guard");
    };
    guard::run(&GuardConfig {
        data_dir: config.data_dir.clone(),
        mysql_dir: mysqld.data_dir.clone(),
    })
    .context("the guard cannot work")
}

fn hash_password(name: &str) -> anyhow::Result<()> {
    if io::stdin().is_terminal() {
        eprintln!("type the password and Enter; it is shown while you type");
    }
    let mut line = String::new();
    io::stdin()
        .lock()
        .read_line(&mut line)
        .context("the password cannot be read")?;
    let password = line.trim_end_matches(['\n', '\r']);
    anyhow::ensure!(!password.is_empty(), "the password is empty");
    let user = users::hash_password(name, password.as_bytes());
    print(&users::render(&[user])?)
}

/// A reader that has gone away is told by an error, not by a panic.
fn print(text: &str) -> anyhow::Result<()> {
    io::stdout()
        .write_all(text.as_bytes())
        .context("the output cannot be written")
}
