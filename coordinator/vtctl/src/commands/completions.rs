//! `vtctl completions`.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::{cli::Cli, output};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  vtctl completions bash > ~/.local/share/bash-completion/completions/vtctl"
)]
pub struct Arguments {
    shell: Shell,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "vtctl", &mut script);
    output::print_text(&String::from_utf8_lossy(&script))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_know_the_commands() {
        let mut script = Vec::new();
        clap_complete::generate(Shell::Bash, &mut Cli::command(), "vtctl", &mut script);
        assert!(String::from_utf8(script).unwrap().contains("switchover"));
    }
}
