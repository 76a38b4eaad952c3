//! Some rows of the fault matrix, those that are soon over. All of them: `make chaos`.

use std::process::{Command, Stdio};

/// A mysqld that is killed, a host that stands still for a moment, one that is cut off, a replica that somebody has stopped.
const ROWS: &[&str] = &["1", "4a", "10", "43"];

#[test]
fn some_rows_of_the_fault_matrix_hold() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: it makes network namespaces and mounts filesystems, which needs root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_chaos"))
        .args(["matrix", "--unhurried"])
        .args(ROWS)
        // Figures are written where it runs.
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{complained}");
    println!("{said}");
}
