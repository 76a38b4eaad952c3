//! Runs the machine's own programs (ip, nft, mount, ...) and turns what they complain about into an error. Never waits for long
//! ones: what is run here answers at once.

use std::{
    ffi::OsStr,
    io::Write,
    process::{Command, Output, Stdio},
};

use anyhow::{Context, bail};

/// Programs that the bed is made with, and the Debian package of each.
pub const PROGRAMS: &[(&str, &str)] = &[
    ("ip", "iproute2"),
    ("tc", "iproute2"),
    ("nft", "nftables"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mount", "mount"),
    ("fsfreeze", "util-linux"),
    ("nsenter", "util-linux"),
    ("unshare", "util-linux"),
    ("python3", "python3"),
];

/// Which of [`PROGRAMS`] cannot be found, as packages to install.
pub fn missing_packages() -> Vec<&'static str> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = |name: &str| std::env::split_paths(&path).any(|dir| dir.join(name).is_file());
    let missing = PROGRAMS.iter().filter(|(name, _)| !is_there(name));
    let mut packages: Vec<_> = missing.map(|(_, package)| *package).collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

/// Runs a program, whose words are separated by blanks.
pub fn run(words: &str) -> anyhow::Result<()> {
    let mut words_of = words.split_whitespace();
    let program = words_of.next().context("name a program")?;
    run_with(program, words_of)
}

/// Runs a program with arguments that may contain blanks.
pub fn run_with(
    program: &str,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> anyhow::Result<()> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    let output = command.output().with_context(|| format!("run {program}"))?;
    judge(&command, &output)
}

/// Runs a program that reads `input`.
pub fn run_on(input: &str, program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("run {program}"))?;
    let mut stdin = child.stdin.take().context("write to it")?;
    stdin.write_all(input.as_bytes())?;
    drop(stdin);
    judge(&command, &child.wait_with_output()?)
}

fn judge(command: &Command, output: &Output) -> anyhow::Result<()> {
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    bail!("{command:?}: {}: {}", output.status, words.trim())
}
