//! `vtctl pki issue`.

use std::path::Path;

use vt_tls::role::Role;

use super::print_entries;
use crate::{
    cli::Global,
    output::{self, Format},
    pki::{self, LEAF_DAYS, Pki, Request},
};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  vtctl pki issue coordinator c1 --host db1.example --host 10.0.0.1
  vtctl pki issue agent zone1-100 --host db1.example
  vtctl pki issue operator ann --days 90")]
pub(super) struct Arguments {
    /// agent, coordinator, operator (may change things) or viewer (may look)
    role: Role,
    /// Whose it is, as logs and events will say
    name: String,
    /// A name or address under which a coordinator or an agent is reached; as often as needed
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<String>,
    /// How long it is good for
    #[arg(long, default_value_t = LEAF_DAYS, value_parser = clap::value_parser!(u32).range(1..=3_650))]
    days: u32,
}

pub(super) fn run(arguments: Arguments, global: &Global, dir: &Path) -> anyhow::Result<()> {
    let request = Request {
        role: arguments.role,
        name: arguments.name,
        hosts: arguments.hosts,
        valid: pki::days(arguments.days),
    };
    request.check()?;
    let entry = Pki::open(dir)?.issue(&request)?;
    if global.output == Format::Table {
        let files = &entry.files;
        output::note(&format!(
            "made for its holder alone:\n  {}\n  {}\n  {}",
            files.certificate.display(),
            files.key.display(),
            files.ca.display()
        ));
    }
    print_entries(global, &[entry])
}
