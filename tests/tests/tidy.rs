//! The tree keeps its own rules.

use vt_tests::tidy;

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
