//! Clients that compress: drivers and the server's own programs, in clear text and through TLS.

use std::process::Command;

use mysql_async::prelude::Queryable;
use mysql_async::{Compression, Conn, SslOpts};

use crate::server::{Mysqld, TestRouter};

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_that_compresses() {
    let server = Mysqld::start().await;
    let router = TestRouter::start(&server, |config| config.tls = Some(server.tls()));
    let tls = SslOpts::default()
        .with_danger_accept_invalid_certs(true)
        .with_danger_skip_domain_validation(true);
    for tls in [None, Some(tls)] {
        let options = router.options("shop").compression(Compression::default());
        let mut app = Conn::new(options.ssl_opts(tls)).await.unwrap();
        let large = "packed well ".repeat(200_000);
        for _ in 0..3 {
            let one: Option<u32> = app.query_first("SELECT 1").await.unwrap();
            assert_eq!(one, Some(1));
            let back: Option<String> = app.exec_first("SELECT ?", (&large,)).await.unwrap();
            assert_eq!(back.as_deref(), Some(large.as_str()));
        }
        let noise: Option<usize> = app
            .query_first("SELECT LENGTH(CONCAT(RANDOM_BYTES(1000), RANDOM_BYTES(1000)))")
            .await
            .unwrap();
        assert_eq!(noise, Some(2000));
        let mut several = app.query_iter("SELECT 1; SELECT 2").await.unwrap();
        assert_eq!(several.collect::<i32>().await.unwrap(), [1]);
        assert_eq!(several.collect::<i32>().await.unwrap(), [2]);
    }
}

/// The server's own client, by both algorithms and several levels, tells what it and the router agreed on by working.
#[tokio::test(flavor = "multi_thread")]
async fn the_servers_own_client() {
    let server = Mysqld::start().await;
    let router = TestRouter::start(&server, |_| {});
    let port = router.handle.local_address().port();
    let program = crate::server::program().with_file_name("mysql");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[client]\nuser=app\npassword=secret\n").unwrap();
    for arguments in [
        &["--compression-algorithms=zlib"][..],
        &["--compression-algorithms=zstd"],
        &[
            "--compression-algorithms=zstd",
            "--zstd-compression-level=19",
        ],
        &["--compression-algorithms=zstd,zlib,uncompressed"],
    ] {
        let mut command = Command::new(&program);
        command
            .arg(format!("--defaults-file={}", file.path().display()))
            .args(["--protocol=TCP", "--host=127.0.0.1", "--ssl-mode=DISABLED"])
            .arg(format!("--port={port}"))
            .args(arguments)
            .args(["--batch", "--skip-column-names", "shop"])
            .args([
                "-e",
                "SELECT 1; SELECT REPEAT('ab', 500000); SHOW STATUS LIKE 'Uptime'",
            ]);
        let output = tokio::task::spawn_blocking(move || command.output())
            .await
            .unwrap()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "1", "{arguments:?}");
        assert_eq!(lines[1], "ab".repeat(500_000), "{arguments:?}");
        assert!(lines[2].starts_with("Uptime"), "{arguments:?}");
    }
}
