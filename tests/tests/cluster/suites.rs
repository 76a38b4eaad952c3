//! A client's own test suite, against a server alone and through a router: see `tests/suites/run`. `make suites` runs all of them.

use std::{path::Path, time::Duration};

use tokio::process::Command;

use super::succeeds;

/// The quickest of them, on a client library of its own.
const SUITE: &str = "mysqlclient";
/// Packages are fetched and built at first.
const SUITE_TIMEOUT: Duration = Duration::from_secs(280);

#[tokio::test]
async fn a_clients_own_suite_passes_as_on_the_server_itself() -> anyhow::Result<()> {
    let mut suites = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("suites/run"));
    succeeds(suites.arg(SUITE), SUITE_TIMEOUT).await
}
