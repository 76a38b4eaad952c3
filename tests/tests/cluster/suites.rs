//! A client's own test suite, against a server alone and through a router: see `tests/suites/run`. `make suites` runs all of them.

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::{Context, ensure};
use tokio::process::Command;

/// The quickest of them, on a client library of its own.
const SUITE: &str = "mysqlclient";
/// Packages are fetched and built at first.
const SUITE_TIMEOUT: Duration = Duration::from_secs(280);

#[tokio::test]
async fn a_clients_own_suite_passes_as_on_the_server_itself() -> anyhow::Result<()> {
    let running = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("suites/run"))
        .arg(SUITE)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(SUITE_TIMEOUT, running).await;
    let output = output.context("the suite does not end")??;
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{}: {said}\n{complained}",
        output.status
    );
    Ok(())
}
