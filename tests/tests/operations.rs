//! What docs/operations.md tells operators of the coordinators' group, walked with real processes by the commands that stand there.

use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use vt_tests::cluster::local::bin_dir;

#[test]
fn what_operators_are_told_works_as_written() -> anyhow::Result<()> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/operations-test");
    let output = Command::new(script)
        .env("VT_BIN_DIR", bin_dir()?)
        .stdin(Stdio::null())
        .output()
        .context("start the walk")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}\n{complained}");
    Ok(())
}
