//! `vtctl pki rotate`.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use vt_tls::role::Role;

use super::{init::authority, print_entries, show};
use crate::{
    cli::Global,
    failure::{Failure, Kind},
    output::{self, Format},
    pki::{self, Pki},
};

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "\
Programs read their files again when they change: copy the new ones over the old ones, nothing restarts.

To replace the CA:
  vtctl pki rotate ca        both CAs are accepted: copy each ca.pem to its holder
  vtctl pki rotate           all certificates by the new one: copy them
  vtctl pki rotate finish    the old one is accepted no longer: copy each ca.pem again")]
pub(super) struct Arguments {
    #[command(subcommand)]
    step: Option<Step>,
    /// Only certificates of this role
    role: Option<Role>,
    /// Only this one
    name: Option<String>,
    /// Only those that expire within so many days
    #[arg(long, value_name = "DAYS")]
    expire_within: Option<u32>,
}

#[derive(Debug, Subcommand)]
enum Step {
    /// Begin to replace the CA: the new one signs, both are accepted
    Ca {
        /// The certificate of your own new CA, in PEM
        #[arg(long, value_name = "FILE", requires = "ca_key")]
        ca_cert: Option<PathBuf>,
        /// Its key, in PEM
        #[arg(long, value_name = "FILE", requires = "ca_cert")]
        ca_key: Option<PathBuf>,
    },
    /// End it: the old CA is accepted no longer
    Finish,
}

pub(super) fn run(arguments: Arguments, global: &Global, dir: &Path) -> anyhow::Result<()> {
    let pki = Pki::open(dir)?;
    match &arguments.step {
        Some(Step::Ca { ca_cert, ca_key }) => {
            pki.rotate_authority(&authority(ca_cert.as_deref(), ca_key.as_deref())?)?;
            next(
                global,
                "copy each ca.pem to its holder, then `vtctl pki rotate`",
            );
            show(global, &pki)
        }
        Some(Step::Finish) => {
            pki.finish()?;
            next(global, "copy each ca.pem to its holder");
            show(global, &pki)
        }
        None => leaves(&arguments, global, &pki),
    }
}

fn leaves(arguments: &Arguments, global: &Global, pki: &Pki) -> anyhow::Result<()> {
    let mut entries = pki.issued()?;
    entries.retain(|entry| {
        let identity = &entry.leaf.identity;
        let within = arguments.expire_within.map(pki::days);
        let soon = within.is_none_or(|within| {
            let within = i64::try_from(within.as_secs()).unwrap_or(i64::MAX);
            pki::remaining_s(&entry.leaf) <= within
        });
        let role = arguments.role.is_none() || arguments.role == identity.role;
        let name = arguments.name.as_deref();
        soon && role && name.is_none_or(|name| name == &*identity.name)
    });
    // Nothing that expires soon is no mistake: whoever asks does so each night.
    if entries.is_empty() && arguments.expire_within.is_none() {
        return Err(Failure::new(Kind::NotFound, "there is no such certificate")
            .next("`vtctl pki show` lists them, `vtctl pki issue` makes one")
            .into());
    }
    let fresh = pki.rotate(&entries)?;
    if !fresh.is_empty() {
        next(
            global,
            "copy the files to their holders, which take them into use within seconds",
        );
    }
    print_entries(global, &fresh)
}

fn next(global: &Global, what: &str) {
    if global.output == Format::Table {
        output::note(&format!("next: {what}"));
    }
}
