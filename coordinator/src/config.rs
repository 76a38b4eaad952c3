//! The configuration file: read, checked whole, every mistake reported at once. Never touches anything but that file.

use std::{collections::BTreeMap, fmt, fs, net::SocketAddr, path::Path, path::PathBuf};

use toml::{Table, Value};
use vt_tls::{files::TlsFiles, listen::Limits};

mod security;

/// Members that may be named: those of a group while one of five is being replaced, and one more.
const MEMBERS_MAX: usize = 7;

/// How logs are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// Everything that a coordinator is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub cluster: String,
    pub member_id: u64,
    pub data_dir: PathBuf,
    /// gRPC: admin, agents, routers, raft.
    pub listen: SocketAddr,
    /// Metrics, health and the status page.
    pub http_listen: SocketAddr,
    /// Where each member serves gRPC, as host:port.
    pub members: BTreeMap<u64, String>,
    /// None: everything is plaintext, on loopback.
    pub tls: Option<TlsFiles>,
    /// Who may connect how often.
    pub limits: Limits,
    pub log_format: LogFormat,
    /// Which log lines are written, as in `info` or `info,vt_coordinator=debug`.
    pub log_filter: String,
}

/// A file that cannot be used, with all its mistakes.
#[derive(Debug, thiserror::Error)]
pub struct ConfigError {
    path: PathBuf,
    mistakes: Vec<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        write!(f, "the configuration file {path} cannot be used:")?;
        for mistake in &self.mistakes {
            write!(f, "\n  {mistake}")?;
        }
        Ok(())
    }
}

impl Config {
    /// Reads and checks the file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let failed = |mistakes| ConfigError {
            path: path.to_owned(),
            mistakes,
        };
        let text = fs::read_to_string(path)
            .map_err(|error| failed(vec![format!("it cannot be read: {error}")]))?;
        Self::parse(&text).map_err(failed)
    }

    /// Checks the text of a file; all mistakes or a configuration.
    pub fn parse(text: &str) -> Result<Self, Vec<String>> {
        let table = text
            .parse::<Table>()
            .map_err(|error| vec![error.to_string().trim_end().replace('\n', "\n  ")])?;
        let mut root = Section::new("", table);
        let mut log = root.section("log");
        let members = root.members();
        let cluster = root.text("cluster");
        let cluster = root.check("cluster", cluster, check_cluster);
        let member_id = root.member_id();
        let data_dir = root.text("data_dir");
        let data_dir = root.check("data_dir", data_dir, check_path);
        let listen = root.address("listen");
        let http_listen = root.address("http_listen");
        let format = log.optional_text("format").unwrap_or("text".to_owned());
        let log_format = log.check("format", Some(format), check_format);
        let log_filter = log.optional_text("filter").unwrap_or("info".to_owned());
        let log_filter = log.check("filter", Some(log_filter), check_filter);
        check_together(&mut root, member_id, &members, listen, http_listen);
        let listens = [("listen", listen), ("http_listen", http_listen)];
        let security = security::resolve(&mut root, &listens);
        let mut mistakes = root.finish();
        mistakes.extend(log.finish());
        let config = || {
            Some(Self {
                cluster: cluster?,
                member_id: member_id?,
                data_dir: data_dir?,
                listen: listen?,
                http_listen: http_listen?,
                members,
                tls: security.tls,
                limits: security.limits,
                log_format: log_format?,
                log_filter: log_filter?,
            })
        };
        match config() {
            Some(config) if mistakes.is_empty() => Ok(config),
            _ => Err(mistakes),
        }
    }
}

fn check_together(
    root: &mut Section,
    member_id: Option<u64>,
    members: &BTreeMap<u64, String>,
    listen: Option<SocketAddr>,
    http_listen: Option<SocketAddr>,
) {
    if let Some(id) = member_id
        && !members.is_empty()
        && !members.contains_key(&id)
    {
        root.mistake(
            "member_id",
            &format!("member {id} does not stand in [members]"),
        );
    }
    if listen.is_some() && listen == http_listen {
        root.mistake(
            "http_listen",
            "it is the same as listen: choose another port",
        );
    }
}

fn check_cluster(text: String) -> Result<String, String> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if text.is_empty() || text.len() > 32 || !text.chars().all(good) {
        return Err("use 1 to 32 characters a-z, 0-9 and -".to_owned());
    }
    Ok(text)
}

fn check_path(text: String) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_absolute() {
        return Ok(path);
    }
    Err("write it from the root, as in /var/lib/vitrail/coordinator".to_owned())
}

fn check_format(text: String) -> Result<LogFormat, String> {
    match text.as_str() {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!("'{text}' is not known: use \"text\" or \"json\"")),
    }
}

fn check_filter(text: String) -> Result<String, String> {
    match text.parse::<tracing_subscriber::EnvFilter>() {
        Ok(_) => Ok(text),
        Err(error) => Err(format!("'{text}' is not a filter: {error}")),
    }
}

fn check_member_address(text: &str) -> Result<(), String> {
    let parts = text.rsplit_once(':');
    let good = parts.is_some_and(|(host, port)| {
        !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if good {
        return Ok(());
    }
    Err(format!("'{text}' is not host:port"))
}

/// One section of the file. Keys that were not asked for are mistakes.
struct Section {
    name: String,
    table: Table,
    mistakes: Vec<String>,
}

impl Section {
    fn new(name: &str, table: Table) -> Self {
        Self {
            name: name.to_owned(),
            table,
            mistakes: Vec::new(),
        }
    }

    fn mistake(&mut self, key: &str, what: &str) {
        let dot = if self.name.is_empty() { "" } else { "." };
        self.mistakes
            .push(format!("{}{dot}{key}: {what}", self.name));
    }

    fn section(&mut self, key: &str) -> Section {
        let table = match self.table.remove(key) {
            None => Table::new(),
            Some(Value::Table(table)) => table,
            Some(_) => {
                self.mistake(key, &format!("write it as a section, [{key}]"));
                Table::new()
            }
        };
        Section::new(key, table)
    }

    fn optional_text(&mut self, key: &str) -> Option<String> {
        match self.table.remove(key) {
            None => None,
            Some(Value::String(text)) => Some(text),
            Some(_) => {
                self.mistake(key, "it must be text, in quotes");
                None
            }
        }
    }

    fn text(&mut self, key: &str) -> Option<String> {
        if !self.table.contains_key(key) {
            self.mistake(key, "it is missing");
        }
        self.optional_text(key)
    }

    fn check<T>(
        &mut self,
        key: &str,
        text: Option<String>,
        check: impl Fn(String) -> Result<T, String>,
    ) -> Option<T> {
        match check(text?) {
            Ok(value) => Some(value),
            Err(what) => {
                self.mistake(key, &what);
                None
            }
        }
    }

    fn address(&mut self, key: &str) -> Option<SocketAddr> {
        let text = self.text(key);
        self.check(key, text, |text| {
            text.parse()
                .map_err(|_| format!("'{text}' is not address:port, as in 127.0.0.1:15100"))
        })
    }

    fn member_id(&mut self) -> Option<u64> {
        match self.table.remove("member_id") {
            Some(Value::Integer(id)) if id > 0 => u64::try_from(id).ok(),
            Some(_) => {
                self.mistake("member_id", "it must be a whole number from 1 up");
                None
            }
            None => {
                self.mistake("member_id", "it is missing");
                None
            }
        }
    }

    fn members(&mut self) -> BTreeMap<u64, String> {
        let mut section = self.section("members");
        let mut members: BTreeMap<u64, String> = BTreeMap::new();
        for (key, value) in std::mem::take(&mut section.table) {
            let id = key.parse::<u64>().ok().filter(|id| *id > 0);
            let (Some(id), Value::String(address)) = (id, value) else {
                section.mistake(&key, "write a member as 1 = \"host:port\"");
                continue;
            };
            if let Err(what) = check_member_address(&address) {
                section.mistake(&key, &what);
            }
            if members.values().any(|other| *other == address) {
                section.mistake(&key, &format!("{address} is that of another member too"));
            }
            members.insert(id, address);
        }
        let count = members.len();
        if section.mistakes.is_empty() && !(1..=MEMBERS_MAX).contains(&count) {
            let what = format!("name 1 to {MEMBERS_MAX} members, here are {count}");
            self.mistake("members", &what);
        }
        self.mistakes.append(&mut section.mistakes);
        members
    }

    /// All mistakes; what was not asked for is one.
    fn finish(mut self) -> Vec<String> {
        let unknown: Vec<String> = self.table.keys().cloned().collect();
        for key in unknown {
            self.mistake(&key, "this key is not known");
        }
        self.mistakes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
cluster = "demo"
member_id = 1
data_dir = "/var/lib/vitrail/coordinator"
listen = "127.0.0.1:15100"
http_listen = "127.0.0.1:15101"
plaintext = true
[members]
1 = "127.0.0.1:15100"
2 = "127.0.0.1:15110"
3 = "db.example:15120"
"#;

    #[test]
    fn a_good_file_is_read() {
        let config = Config::parse(GOOD).unwrap();
        assert_eq!(config.members.len(), 3);
        assert_eq!(config.log_filter, "info");
        let json = format!("{GOOD}\n[log]\nformat = \"json\"\n");
        assert_eq!(Config::parse(&json).unwrap().log_format, LogFormat::Json);
    }

    #[test]
    fn mistakes_are_named() {
        let cases = [
            ("cluster = \"demo\"", "", "cluster: it is missing"),
            ("\"demo\"", "\"De mo\"", "cluster: use 1 to 32"),
            ("\"demo\"", "7", "cluster: it must be text"),
            ("member_id = 1", "member_id = 9", "member 9 does not stand"),
            ("member_id = 1", "member_id = -1", "member_id: it must be"),
            ("\"/var", "\"var", "data_dir: write it from the root"),
            ("15101", "x", "http_listen: '127.0.0.1:x' is not"),
            ("15101", "15100", "http_listen: it is the same"),
            (
                "3 = \"db",
                "8 = \"c:1\"\n7 = \"d:1\"\n6 = \"e:1\"\n5 = \"f:1\"\n4 = \"g:1\"\n3 = \"db",
                "name 1 to 7 members, here are 8",
            ),
            ("db.example:15120", "db.example", "members.3: 'db.example'"),
            ("db.example:15120", "127.0.0.1:15110", "another member too"),
            ("3 = \"db", "x = \"db", "members.x: write a member as"),
            ("[members]", "colour = 1\n[members]", "colour: this key"),
            ("[members]", "log = 1\n[members]", "log: write it as"),
            (
                "[members]",
                "[log]\nformat = \"x\"\n[members]",
                "log.format: 'x'",
            ),
            (
                "[members]",
                "[log]\nlevel = \"x\"\n[members]",
                "log.level: this key",
            ),
            (
                "[members]",
                "[log]\nfilter = \"a=b=c\"\n[members]",
                "log.filter",
            ),
            ("cluster =", "cluster", "TOML parse error"),
        ];
        for (from, to, expected) in cases {
            let mistakes = Config::parse(&GOOD.replace(from, to)).unwrap_err();
            let found = mistakes.iter().any(|mistake| mistake.contains(expected));
            assert!(found, "{expected}: {mistakes:?}");
        }
    }

    #[test]
    fn insecurity_is_named() {
        let cases = [
            ("plaintext = true", "", "tls: give certificate, key and ca"),
            (
                "listen = \"127.0.0.1:15100\"",
                "listen = \"10.0.0.1:15100\"",
                "listen: 10.0.0.1:15100 is not loopback",
            ),
            (
                "http_listen = \"127.0.0.1",
                "http_listen = \"0.0.0.0",
                "http_listen: 0.0.0.0:15101 is not loopback",
            ),
            ("plaintext = true", "plaintext = 1", "plaintext: it must be"),
            (
                "[members]",
                "[tls]\ncertificate = \"/a\"\nkey = \"/b\"\nca = \"/c\"\n[members]",
                "plaintext: there is [tls] too",
            ),
            (
                "[members]",
                "[tls]\ncertificate = \"a\"\n[members]",
                "tls.certificate: write it from the root",
            ),
            (
                "[members]",
                "[tls]\nkey = \"/a\"\n[members]",
                "tls.ca: it is missing",
            ),
            (
                "[members]",
                "[limits]\nconnections = 0\n[members]",
                "limits.connections: it must be",
            ),
        ];
        for (from, to, expected) in cases {
            let mistakes = Config::parse(&GOOD.replace(from, to)).unwrap_err();
            let found = mistakes.iter().any(|mistake| mistake.contains(expected));
            assert!(found, "{expected}: {mistakes:?}");
        }
    }

    #[test]
    fn certificates_and_limits_are_read() {
        let tls =
            "[limits]\nconnections = 7\n[tls]\ncertificate = \"/a\"\nkey = \"/b\"\nca = \"/c\"";
        let text = GOOD.replace("plaintext = true", tls);
        let config = Config::parse(&text.replace("127.0.0.1:15101", "10.0.0.1:15101")).unwrap();
        let files = config.tls.unwrap();
        assert_eq!(files.ca, Path::new("/c"));
        assert_eq!(config.limits.connections, 7);
        assert_eq!(Config::parse(GOOD).unwrap().tls, None);
    }

    #[test]
    fn all_mistakes_are_reported_at_once() {
        let mistakes = Config::parse("listen = 1\nfoo = 2\n").unwrap_err();
        assert_eq!(mistakes.len(), 8, "{mistakes:?}");
    }
}
