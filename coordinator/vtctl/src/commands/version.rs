//! `vtctl version`.

use serde::Serialize;

use crate::{cli::Global, output};

#[derive(Serialize)]
struct Version {
    version: &'static str,
}

pub fn run(global: &Global) -> anyhow::Result<()> {
    let version = Version {
        version: env!("CARGO_PKG_VERSION"),
    };
    output::print(global.output, &version, |it| {
        format!("vtctl {}", it.version)
    })
}
