//! The command line: flags that every command takes, exit codes, where the coordinators are found.

use std::{env, path::PathBuf, time::Duration};

use clap::Parser;
use vt_tls::files::TlsFiles;

use crate::{
    client::Client,
    commands::Command,
    failure::{Failure, Kind},
    local::cluster::Cluster,
    output::Format,
    pki::files_in,
};

/// Where the addresses of the coordinators may stand.
const COORDINATORS_ENV: &str = "VT_COORDINATORS";
/// Long enough for an election and a retry.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed
  2  the command line or a given value is wrong
  3  what was named does not exist
  4  refused: it exists already, somebody else changed it, or it would break a rule
  5  no coordinator (or router) could be reached in time

Examples:
  vtctl local up                          a cluster of three tablets on this machine
  vtctl replica-set show main             who is primary, who acknowledges, who lags
  vtctl keyspace create commerce --replica-set main
  vtctl schema apply --keyspace commerce schema.sql
  vtctl sql --keyspace commerce -e 'SELECT * FROM product'
  vtctl replica-set switchover main       plan the primary's move
  vtctl why main                          what was seen, decided, and how long it took
  vtctl events --follow";

/// The operator's tool of Vitrail.
///
/// Writes intent to the coordinators and shows what they know. `vtctl local` runs a whole cluster on this machine.
#[derive(Debug, Parser)]
#[command(name = "vtctl", version, after_long_help = EXIT_CODES, propagate_version = false)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every command.
#[derive(Clone, Debug, clap::Args)]
pub struct Global {
    /// The coordinators, as host:port,host:port [env: VT_COORDINATORS] [default: those of the local cluster].
    /// `local up` takes their number (1, 3 or 5) instead
    #[arg(
        long,
        global = true,
        value_name = "ADDRESSES",
        help_heading = "Global options"
    )]
    pub coordinators: Option<String>,

    /// The directory of the local cluster [default: ${XDG_STATE_HOME:-~/.local/state}/vitrail/local]
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "VT_LOCAL_DIR",
        help_heading = "Global options"
    )]
    pub dir: Option<PathBuf>,

    /// The directory with certificate.pem, key.pem and ca.pem for the coordinators [default: those of the local cluster]
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "VT_TLS_DIR",
        help_heading = "Global options"
    )]
    pub tls_dir: Option<PathBuf>,

    /// How results are printed
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value_t,
        help_heading = "Global options"
    )]
    pub output: Format,

    /// Give up after so many seconds [default: 30; what waits for an outcome: 120]
    #[arg(long, global = true, value_name = "SECONDS", value_parser = seconds, help_heading = "Global options")]
    pub timeout: Option<Duration>,
}

impl Global {
    /// A client of the coordinators that flag, environment or local cluster name.
    pub fn client(&self) -> anyhow::Result<Client> {
        let (addresses, tls) = self.reach()?;
        Ok(Client::new(
            addresses,
            tls,
            self.timeout_or(TIMEOUT_DEFAULT),
        ))
    }

    /// The time limit that was asked for, or the command's own.
    pub fn timeout_or(&self, default: Duration) -> Duration {
        self.timeout.unwrap_or(default)
    }

    /// The directory of the local cluster.
    pub fn local_dir(&self) -> anyhow::Result<PathBuf> {
        if let Some(dir) = &self.dir {
            return Ok(std::path::absolute(dir)?);
        }
        let set = |name| {
            env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let state =
            set("XDG_STATE_HOME").or_else(|| set("HOME").map(|home| home.join(".local/state")));
        let state = state.ok_or_else(|| {
            Failure::new(Kind::Usage, "neither HOME nor XDG_STATE_HOME is set")
                .next("name a directory with --dir")
        })?;
        Ok(state.join("vitrail/local"))
    }

    /// The coordinators' addresses that flag, environment or local cluster name, and how they are spoken to.
    pub fn reach(&self) -> anyhow::Result<(Vec<String>, Option<TlsFiles>)> {
        if let Some(text) = self.given() {
            return Ok((addresses(&text)?, self.tls()?));
        }
        let dir = self.local_dir()?;
        let cluster = Cluster::load(&dir)?.ok_or_else(|| {
            let message = format!("no coordinators are named and {} is no local cluster", dir.display());
            Failure::new(Kind::Usage, message)
                .next("give --coordinators host:port,... or set VT_COORDINATORS, or start one with `vtctl local up`")
        })?;
        Ok((cluster.coordinator_addresses(), self.tls()?))
    }

    /// The certificate with which coordinators are asked: the named one, else that of the local cluster; none in plaintext.
    pub fn tls(&self) -> anyhow::Result<Option<TlsFiles>> {
        if let Some(dir) = &self.tls_dir {
            return Ok(Some(files_in(dir)));
        }
        // A local cluster counts where it is named, also when some of its members are picked out, and where nobody else is.
        if self.dir.is_none() && self.given().is_some() {
            return Ok(None);
        }
        let cluster = Cluster::load(&self.local_dir()?)?;
        Ok(cluster.and_then(|cluster| cluster.operator_tls()))
    }

    fn given(&self) -> Option<String> {
        let given = self.coordinators.clone();
        let given = given.or_else(|| env::var(COORDINATORS_ENV).ok());
        given.filter(|text| !text.is_empty())
    }
}

fn addresses(text: &str) -> Result<Vec<String>, Failure> {
    let mut all = Vec::new();
    for part in text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let port = part.rsplit_once(':').and_then(|(host, port)| {
            let port = port.parse::<u16>().ok().filter(|port| *port > 0)?;
            (!host.is_empty()).then_some(port)
        });
        if port.is_none() {
            let message = format!("'{part}' is no address of a coordinator");
            return Err(Failure::new(Kind::Usage, message)
                .next("write host:port, several with commas between"));
        }
        all.push(part.to_owned());
    }
    Ok(all)
}

fn seconds(text: &str) -> Result<Duration, String> {
    let value: f64 = text
        .trim_end_matches('s')
        .parse()
        .map_err(|_| "write seconds, as in 30 or 0.5")?;
    let duration = Duration::try_from_secs_f64(value).map_err(|error| error.to_string())?;
    if duration.is_zero() || duration > Duration::from_secs(86_400) {
        return Err("use more than 0 and at most 86400 seconds".to_owned());
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn addresses_are_checked() {
        assert_eq!(addresses("a:1, b:2,").unwrap(), ["a:1", "b:2"]);
        for bad in ["a", "a:", ":1", "a:0", "a:b", "a:70000"] {
            assert_eq!(addresses(bad).unwrap_err().kind, Kind::Usage, "{bad}");
        }
    }

    #[test]
    fn time_limits_are_checked() {
        assert_eq!(seconds("0.5").unwrap(), Duration::from_millis(500));
        assert_eq!(seconds("30s").unwrap(), Duration::from_secs(30));
        for bad in ["", "0", "-1", "x", "1e30", "86401"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn commands_parse() {
        for line in [
            "local up --coordinators 1 --tablets 2",
            "--dir /x local status -o json",
            "replica-set switchover main --to zone1-101",
            "keyspace create commerce --replica-set main --no-wait",
            "schema apply --keyspace commerce --sql SELECT",
            "vschema show commerce",
            "events --subject replica-set/main --follow",
            "why main --epoch 7 -o json",
            "lost list main",
            "lost list",
            "lost show zone1-100 3-uuid --transactions 5 --rows 10 -o json",
            "lost forget zone1-100 3-uuid --gtids uuid:5-7",
            "user create app --grant read,write:commerce --grant read:* --max-connections 50",
            "user create app --password-file secret",
            "user password app",
            "user grant app read,write commerce",
            "user revoke app write *",
            "user limit app --max-connections 0",
            "user list -o json",
            "user show app",
            "user drop app",
            "host drain db1.example --wait",
            "host undrain zone1-100",
            "sql -e SELECT --timeout 3",
            "completions bash",
            "coordinator add db4:15100 --no-wait",
            "coordinator replace 2 db4:15100",
            "coordinator transfer --to 3",
            "coordinator backup topology.vtb --verify",
            "coordinator restore topology.vtb --to db1:15100",
            "pki --pki-dir /x init",
            "pki issue coordinator c1 --host db1 --host 10.0.0.1 --days 90",
            "pki rotate",
            "pki rotate agent zone1-100",
            "pki rotate --expire-within 30",
            "pki rotate ca --ca-cert a --ca-key b",
            "pki rotate finish",
            "pki show -o json",
            "local up --plaintext",
        ] {
            let words = std::iter::once("vtctl").chain(line.split(' '));
            if let Err(error) = Cli::try_parse_from(words) {
                panic!("{line}: {error}");
            }
        }
    }
}
