//! The tree keeps its own rules, and documentation that is drawn from code is fresh.

use std::{env, fs};

use vt_coordinator_core::failover::table;
use vt_tests::tidy;

const BEGIN: &str = "<!-- drawn from code: begin -->\n";
const END: &str = "<!-- drawn from code: end -->\n";

#[test]
fn the_tree_is_tidy() {
    let found = tidy::violations(&tidy::root());
    assert!(
        found.is_empty(),
        "{} rules broken:\n{}",
        found.len(),
        found.join("\n")
    );
}

#[test]
fn the_failover_table_is_drawn_from_code() {
    let path = tidy::root().join("docs/failover.md");
    let text = fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let fresh = format!("{before}{BEGIN}{}{END}{after}", table::as_markdown());
    if env::var_os("VT_REWRITE").is_some() {
        fs::write(&path, &fresh).unwrap();
    }
    let text = fs::read_to_string(&path).unwrap();
    assert!(
        text == fresh,
        "docs/failover.md is stale: run VT_REWRITE=1 cargo test -p vt-tests --test tidy"
    );
}
