//! `vtctl pki init`.

use std::path::{Path, PathBuf};

use super::show;
use crate::{
    cli::Global,
    pki::{Pki, authority::Authority},
};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  vtctl pki init
  vtctl pki init --ca-cert company.pem --ca-key company.key")]
pub(super) struct Arguments {
    /// The certificate of your own CA, in PEM; it is copied
    #[arg(long, value_name = "FILE", requires = "ca_key")]
    ca_cert: Option<PathBuf>,
    /// Its key, in PEM (PKCS #8); it is copied
    #[arg(long, value_name = "FILE", requires = "ca_cert")]
    ca_key: Option<PathBuf>,
}

pub(super) fn run(arguments: Arguments, global: &Global, dir: &Path) -> anyhow::Result<()> {
    let authority = authority(arguments.ca_cert.as_deref(), arguments.ca_key.as_deref())?;
    show(global, &Pki::init(dir, &authority)?)
}

/// The user's CA, or a new one.
pub(super) fn authority(
    certificate: Option<&Path>,
    key: Option<&Path>,
) -> anyhow::Result<Authority> {
    match certificate.zip(key) {
        Some((certificate, key)) => Authority::load(certificate, key),
        None => Authority::new(),
    }
}
