//! `vtctl pki`: certificates of the programs and of people.

use std::path::PathBuf;

use chrono::{DateTime, SecondsFormat, Utc};
use clap::Subcommand;
use serde::Serialize;
use vt_tls::role::Leaf;

use crate::{
    cli::Global,
    output::{self, table},
    pki::{self, Entry, Pki},
};

mod init;
mod issue;
mod rotate;

const SECONDS_PER_DAY: i64 = 86_400;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The directory of the PKI [default: pki in the directory that --dir names, else ./pki]
    ///
    /// It holds the CA's key: keep it where only operators are, and have a copy of it.
    #[arg(long, global = true, value_name = "DIR", env = "VT_PKI_DIR")]
    pki_dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the directory with a CA of its own, or with yours
    Init(init::Arguments),
    /// Make a certificate for a program or a person
    Issue(issue::Arguments),
    /// Make certificates anew, or replace the CA
    Rotate(rotate::Arguments),
    /// List the CAs and the certificates
    Show,
}

/// Runs one of them.
pub async fn run(arguments: Arguments, global: &Global) -> anyhow::Result<()> {
    let dir = match (&arguments.pki_dir, &global.dir) {
        (Some(dir), _) => dir.clone(),
        (None, Some(dir)) => dir.join("pki"),
        (None, None) => PathBuf::from("pki"),
    };
    let dir = std::path::absolute(dir)?;
    match arguments.command {
        Command::Init(arguments) => init::run(arguments, global, &dir),
        Command::Issue(arguments) => issue::run(arguments, global, &dir),
        Command::Rotate(arguments) => rotate::run(arguments, global, &dir),
        Command::Show => show(global, &Pki::open(&dir)?),
    }
}

/// A certificate or a CA, as it is shown.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Certificate {
    name: String,
    /// A role, or `ca`.
    role: String,
    hosts: Vec<String>,
    /// UTC, RFC 3339.
    expires: String,
    days_left: i64,
    /// Signed by (or being) the CA that signs now.
    current: bool,
    /// Where its files lie.
    #[serde(skip_serializing_if = "Option::is_none")]
    folder: Option<PathBuf>,
}

impl Certificate {
    fn of(leaf: &Leaf, role: String, current: bool) -> Self {
        let expires = DateTime::<Utc>::from_timestamp(leaf.expires_unix_s, 0);
        Self {
            name: leaf.identity.name.to_string(),
            role,
            hosts: leaf.hosts.clone(),
            expires: expires.map_or_else(
                || "?".to_owned(),
                |time| time.to_rfc3339_opts(SecondsFormat::Secs, true),
            ),
            days_left: pki::remaining_s(leaf).div_euclid(SECONDS_PER_DAY),
            current,
            folder: None,
        }
    }

    fn row(&self) -> [String; 5] {
        let left = match self.days_left {
            ..0 => "expired".to_owned(),
            days => format!("{days} days"),
        };
        let ca = if self.current { "current" } else { "old" };
        [
            self.role.clone(),
            self.name.clone(),
            output::or_dash(Some(self.hosts.join(" "))),
            format!("{} ({left})", self.expires),
            ca.to_owned(),
        ]
    }
}

impl From<&Entry> for Certificate {
    fn from(entry: &Entry) -> Self {
        Self {
            folder: entry.files.certificate.parent().map(ToOwned::to_owned),
            ..Self::of(
                &entry.leaf,
                entry.leaf.identity.unit.to_string(),
                entry.current,
            )
        }
    }
}

fn text(certificates: &[Certificate]) -> String {
    let headers = ["ROLE", "NAME", "HOSTS", "EXPIRES", "CA"];
    table(headers, certificates.iter().map(Certificate::row))
}

fn print_entries(global: &Global, entries: &[Entry]) -> anyhow::Result<()> {
    let all: Vec<_> = entries.iter().map(Certificate::from).collect();
    output::print(global.output, &all, |all| text(all))
}

fn show(global: &Global, pki: &Pki) -> anyhow::Result<()> {
    let authorities = pki.authorities()?.into_iter().enumerate();
    let mut all: Vec<_> = authorities
        .map(|(position, leaf)| Certificate::of(&leaf, "ca".to_owned(), position == 0))
        .collect();
    all.extend(pki.issued()?.iter().map(Certificate::from));
    output::print(global.output, &all, |all| text(all))
}
