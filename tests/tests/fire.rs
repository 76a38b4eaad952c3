//! Three real coordinators are killed, paused, cut off and starved for half a minute under clients whose history must have an
//! order. The same for as long as you like: `make fire SECONDS=180`.

use std::process::{Command, Stdio};

#[test]
fn a_group_under_fire_keeps_its_word() {
    let output = Command::new(env!("CARGO_BIN_EXE_fire"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{complained}");
    println!("{said}");
}
