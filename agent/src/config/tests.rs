//! Files that are right, and files with every mistake at once.

use super::*;

fn write(dir: &Path, name: &str, mode: u32, text: &str) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

const CREDENTIALS: &str =
    "[admin]\npassword = 'a'\n[replication]\npassword = 'r'\n[app]\npassword = 'p'\n";

fn complete(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "coordinators = ['127.0.0.1:15100', 'h2:15110']\ntls.certificate = '/c.pem'\ntls.key = '/k.pem'\n\
         tls.ca = '/ca.pem'\ndata_dir = '{dir}/agent'\nhttp_listen = '127.0.0.1:15201'\n\
         credentials_file = '{dir}/credentials.toml'\n[tablet]\nalias = 'zone1-100'\nreplica_set = 'main'\n\
         kind = 'rdonly'\nhost = '127.0.0.1'\n[mysqld]\nport = 15206\n[router]\nlisten = '127.0.0.1:15306'\n\
         users_file = '{dir}/users.toml'\nstatement_time_max_s = 30\ntransaction_time_max_s = 60\nclient_write_time_max_s = 20\nread_wait_ms = 0\ncell = 'zone2'\nreplica_lag_max_ms = 2000\nslow_statement_ms = 500\nlog_one_of = 1000\n[log]\nformat = 'json'\nfilter = 'debug'\n"
    )
}

fn load_text(text: impl Fn(&Path) -> String) -> (tempfile::TempDir, Result<Config, ConfigErrors>) {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "credentials.toml", 0o600, CREDENTIALS);
    write(dir.path(), "users.toml", 0o600, "");
    let path = write(dir.path(), "agent.toml", 0o644, &text(dir.path()));
    let loaded = load(&path);
    (dir, loaded)
}

#[test]
fn a_complete_file_is_read_with_its_defaults() {
    let (dir, loaded) = load_text(complete);
    let config = loaded.unwrap();
    let (tablet, mysqld) = config.tablet.clone().unwrap();
    assert_eq!(tablet.alias.to_string(), "zone1-100");
    assert_eq!(tablet.kind, TabletKind::Rdonly);
    assert_eq!(mysqld.data_dir, dir.path().join("agent/mysql"));
    assert_eq!(config.coordinators[1].host, "h2");
    let router = config.router.as_ref().unwrap();
    assert_eq!(router.statement_time_max, Some(Duration::from_secs(30)));
    assert_eq!(router.transaction_time_max, Some(Duration::from_secs(60)));
    assert_eq!(router.client_write_time_max, Some(Duration::from_secs(20)));
    assert_eq!(router.read_wait, Some(Duration::ZERO));
    assert_eq!(router.cell, Some("zone2".parse().unwrap()));
    assert_eq!(router.replica_lag_max, Some(Duration::from_secs(2)));
    assert_eq!(router.slow_statement, Some(Duration::from_millis(500)));
    assert_eq!(router.log_one_of, NonZeroU32::new(1_000));
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.credentials.replication.expose(), "r");
    assert!(
        !format!("{config:?}").contains("\"r\""),
        "secrets are masked"
    );
}

#[test]
fn a_router_alone_needs_no_tablet() {
    let alone = |dir: &Path| {
        let text = complete(dir);
        let (head, rest) = text.split_once("[tablet]").unwrap();
        let (_, router) = rest.split_once("[router]").unwrap();
        format!("{head}[router]{router}")
    };
    let (_dir, loaded) = load_text(alone);
    assert_eq!(loaded.unwrap().tablet, None);
}

#[test]
fn every_mistake_is_reported_with_file_and_key() {
    let wrong = |dir: &Path| {
        complete(dir)
            .replace("zone1-100", "Zone")
            .replace("15206", "70000")
            .replace("'h2:15110'", "'h2'")
            .replace("'127.0.0.1:15306'", "'here'")
            .replace("'json'", "'xml'")
            .replace("time_max_s = 30", "time_max_s = 0")
            .replace("kind = 'rdonly'", "kind = 'master'\ncolour = 'red'")
            .replace("users.toml'", "users.toml'\ntls_key = '/k.pem'")
            + "\n[extra]\n"
    };
    let (_dir, loaded) = load_text(wrong);
    let text = loaded.unwrap_err().to_string();
    for expected in [
        "tablet.alias:",
        "mysqld.port: 70000",
        "coordinators: 'h2'",
        "router.listen: 'here'",
        "router.statement_time_max_s: must be a whole number",
        "format: 'xml'",
        "tablet.kind: 'master'",
        "tablet.colour: is not a known key",
        "tls_certificate and tls_key",
        "extra: is not a known key",
    ] {
        assert!(text.contains(expected), "no '{expected}' in:\n{text}");
    }
    assert!(
        text.lines().all(|line| line.contains("agent.toml: ")),
        "{text}"
    );
}

#[test]
fn secrets_that_others_may_read_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "credentials.toml", 0o644, CREDENTIALS);
    write(dir.path(), "users.toml", 0o640, "");
    let path = write(dir.path(), "agent.toml", 0o644, &complete(dir.path()));
    let text = load(&path).unwrap_err().to_string();
    assert!(text.contains("chmod 0600"), "{text}");
    assert_eq!(text.lines().count(), 2, "{text}");
}

#[test]
fn half_a_tablet_is_refused() {
    let (_dir, loaded) = load_text(|dir| complete(dir).replace("[mysqld]\nport = 15206\n", ""));
    let text = loaded.unwrap_err().to_string();
    assert!(
        text.contains("[tablet] and [mysqld] belong together"),
        "{text}"
    );
}

#[test]
fn plaintext_is_for_loopback_alone() {
    let plain = |dir: &Path, from: &str, to: &str| {
        let text = complete(dir).replace(", 'h2:15110'", "");
        let lines = text.lines().filter(|line| !line.starts_with("tls."));
        let text: Vec<_> = lines.collect();
        format!("plaintext = true\n{}\n", text.join("\n")).replace(from, to)
    };
    let (_dir, loaded) = load_text(|dir| plain(dir, "", ""));
    assert_eq!(loaded.unwrap().tls, None);
    for (from, to, expected) in [
        ("plaintext = true", "", "[tls] is missing"),
        ("plaintext = true", "plaintext = 1", "plaintext: must be"),
        (
            "['127.0.0.1:15100'",
            "['localhost:1', 'h2:15110'",
            "h2:15110 not on loopback",
        ),
        (
            "'127.0.0.1:15201'",
            "'0.0.0.0:15201'",
            "http_listen: 0.0.0.0:15201",
        ),
        (
            "data_dir",
            "tls.ca = '/ca.pem'\ndata_dir",
            "leave out one of them",
        ),
        (
            "data_dir",
            "tls.ca = '/ca.pem'\ndata_dir",
            "tls.key: is missing",
        ),
    ] {
        let (_dir, loaded) = load_text(|dir| plain(dir, from, to));
        let text = loaded.unwrap_err().to_string();
        assert!(text.contains(expected), "no '{expected}' in:\n{text}");
    }
}
