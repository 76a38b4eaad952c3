//! Where the programs lie that are tried.

use std::{env, path::PathBuf};

use anyhow::{Context, ensure};

/// The folder that has all of these programs: VT_BIN_DIR, or where this program lies.
pub fn folder(names: &[&str]) -> anyhow::Result<PathBuf> {
    let folder = match env::var_os("VT_BIN_DIR").filter(|folder| !folder.is_empty()) {
        Some(folder) => PathBuf::from(folder),
        None => env::current_exe()?
            .parent()
            .context("lie in a folder")?
            .to_owned(),
    };
    for name in names {
        let program = folder.join(name);
        ensure!(
            program.is_file(),
            "{} is missing: build the workspace, or set VT_BIN_DIR",
            program.display()
        );
    }
    Ok(folder.canonicalize()?)
}
