//! Namespaces for mounts, network and processes in which a run can do what it likes: they end with it, and take everything along.

use std::{
    io,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Command, ExitStatus, Stdio},
    thread,
};

use anyhow::{Context, bail, ensure};

use super::shell::{self, run};

/// The first process in a namespace: it waits for whatever others leave behind, so that nothing dead stays there, and ends with the program.
const INIT: &str = r#"exec 3<&0; "$@" <&3 3<&- & wait $!"#;

/// Why this machine cannot be used.
pub fn check_machine() -> anyhow::Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "it needs root: it makes network namespaces and mounts filesystems, in namespaces of its own"
    );
    let missing = shell::missing_packages().join(" ");
    ensure!(
        missing.is_empty(),
        "it needs programs that are not here: install {missing}"
    );
    Ok(())
}

/// Runs a program in new namespaces for mounts, network and processes. Everything in them ends with it, and it ends with us.
pub fn enter(program: &Path, arguments: &[String]) -> anyhow::Result<ExitStatus> {
    let mut child = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--net"])
        .args(["--pid", "--mount-proc", "--fork", "--kill-child", "--"])
        .args(["sh", "-c", INIT, "sh"])
        .arg(program)
        .args(arguments)
        // Closed by our end: then whoever is inside ends as well.
        .stdin(Stdio::piped())
        .spawn()
        .context("run unshare")?;
    // Waiting closes it otherwise.
    let stdin = child.stdin.take();
    let status = child.wait()?;
    drop(stdin);
    if let Some(signal) = status.signal() {
        bail!("what ran inside was ended by signal {signal}");
    }
    Ok(status)
}

/// Ends this process when the other end of its standard input does.
pub fn end_with_stdin() {
    thread::spawn(|| {
        drop(io::copy(&mut io::stdin(), &mut io::sink()));
        std::process::exit(3);
    });
}

/// Names of network namespaces lie in /run; this hides those of the machine and leaves none behind. Expects namespaces of its own.
pub fn hide_names() -> anyhow::Result<()> {
    run("mount -t tmpfs bed /run").context("mount in a namespace of its own")
}
