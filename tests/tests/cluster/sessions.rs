//! Sessions of every kind on all routers at once, while connections to servers are killed and strangers come: a short soak.

use anyhow::ensure;
use vt_tests::router_soak;

use super::on_a_cluster;

const SEED: u64 = 1;
/// Long enough for some hundred sessions. What grows only shows in an hour.
const SECONDS: u64 = 20;

#[tokio::test(flavor = "multi_thread")]
async fn no_session_sees_anything_of_another() -> anyhow::Result<()> {
    on_a_cluster(async |cluster| {
        let report = router_soak::run_on(cluster, SEED, SECONDS).await?;
        ensure!(report.wrong_count == 0, "{report:#?}");
        for what in [
            "session",
            "write",
            "server connection killed",
            "lock inherited",
        ] {
            ensure!(report.done.contains_key(what), "no {what}: {report:#?}");
        }
        Ok(())
    })
    .await
}
