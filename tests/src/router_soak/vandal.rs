//! Who disturbs: ends connections between routers and servers, comes as a stranger that does not behave, moves the primary.

use std::time::Duration;

use anyhow::Context;
use mysql_async::{Conn, prelude::Queryable};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{Instant, sleep},
};

use super::Log;
use crate::{
    cluster::{
        local::{LocalCluster, REPLICA_SET},
        login::Login,
    },
    sim::random::Random,
};

const PAUSE_MS: (u64, u64) = (50, 500);
/// Between two moves of the primary.
const MOVE_INTERVAL: Duration = Duration::from_secs(45);
/// A stranger stays so long at most.
const STRANGER_MS: (u64, u64) = (0, 3_000);
/// A connection that runs nothing, or one in the middle of a statement: whoever it hits.
const PICK: &str =
    "SELECT id FROM performance_schema.processlist WHERE user = 'vt_app' ORDER BY RAND() LIMIT 1";
/// The first bytes of a handshake's answer: a length that is not all there.
const HALF_ANSWER: &[u8] = b"\x54\x00\x00\x01\x85\xa6\xff\x01";
const NOT_MYSQL: &[u8] = b"GET / HTTP/1.1\r\nHost: router\r\n\r\n";

/// Disturbs until it is dropped.
pub async fn rage(
    seed: u64,
    cluster: &LocalCluster,
    logins: &[Login],
    log: &Log,
) -> anyhow::Result<()> {
    let mut random = Random::new(seed).fork("vandal");
    let overview = cluster.overview().await?;
    let tablets: Vec<_> = overview
        .agents()
        .filter_map(|agent| agent.tablet.clone())
        .collect();
    let mut moves_at = Instant::now() + MOVE_INTERVAL;
    loop {
        sleep(Duration::from_millis(
            random.between(PAUSE_MS.0, PAUSE_MS.1),
        ))
        .await;
        if Instant::now() >= moves_at {
            // One that is not fit yet is refused.
            let words = ["replica-set", "switchover", REPLICA_SET];
            log.count(match cluster.vtctl(&words).await {
                Ok(_) => "switchover",
                Err(_) => "switchover refused",
            });
            moves_at = Instant::now() + MOVE_INTERVAL;
        } else if random.chance(50) {
            let tablet: &String = random.pick(&tablets);
            // Its server may be down: on a machine that is too busy a primary is replaced, and comes back.
            if cut(cluster, tablet, log).await.is_err() {
                log.count("server not reached");
            }
        } else {
            let address = (logins[0].host.clone(), random.pick(logins).port);
            let stay = Duration::from_millis(random.between(STRANGER_MS.0, STRANGER_MS.1));
            let words = *random.pick(&[&b""[..], HALF_ANSWER, NOT_MYSQL]);
            log.count("stranger");
            tokio::spawn(async move {
                let mut stream = TcpStream::connect(address).await?;
                stream.write_all(words).await?;
                sleep(stay).await;
                std::io::Result::Ok(())
            });
        }
    }
}

async fn cut(cluster: &LocalCluster, tablet: &str, log: &Log) -> anyhow::Result<()> {
    let mut session = Conn::new(cluster.admin(tablet, "vitrail")?)
        .await
        .with_context(|| format!("connect to the mysqld of {tablet}"))?;
    let found: Option<u64> = session.query_first(PICK).await?;
    if let Some(id) = found {
        // It may have ended meanwhile.
        if session.query_drop(format!("KILL {id}")).await.is_ok() {
            log.count("server connection killed");
        }
    }
    session.disconnect().await?;
    Ok(())
}
