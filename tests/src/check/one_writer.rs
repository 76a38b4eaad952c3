//! Invariant 1 as clients see it: no OK of an earlier primary for a write that began after the first OK of a later one.
//!
//! Clients do not know epochs. They know when a write began and ended, and the row says which server wrote it. The fewest changes of
//! the writing server that explain all OKs are looked for; they must be changes that the coordinators decided.

use std::time::Instant;

use super::Violation;

/// More changes than any run has: two servers that take turns with every write.
const CHANGES_MAX: usize = 1_000;

/// An acknowledged write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    pub server: String,
    pub began: Instant,
    pub ended: Instant,
}

/// Whether primaries that followed each other like this explain these writes.
pub fn check(writes: Vec<Write>, primaries: &[String]) -> Result<(), Violation> {
    let writers = writers(writes);
    let mut known = primaries.iter();
    if writers.iter().all(|writer| known.any(|it| it == writer)) {
        return Ok(());
    }
    Err(format!(
        "clients were told OK by {}, where the primaries were {}",
        shortened(&writers),
        shortened(primaries)
    ))
}

/// Who wrote, one after the other. A write belongs to the earlier one if it began before the first OK of the later one.
fn writers(mut writes: Vec<Write>) -> Vec<String> {
    let mut found = Vec::new();
    while let Some(first) = writes.iter().min_by_key(|it| it.ended) {
        let server = first.server.clone();
        let others = writes.iter().filter(|it| it.server != server);
        let next = others.map(|it| it.ended).min();
        let is_later = |it: &Write| it.server != server || next.is_some_and(|at| it.began >= at);
        writes.retain(is_later);
        found.push(server);
        if found.len() >= CHANGES_MAX {
            break;
        }
    }
    found
}

fn shortened(names: &[String]) -> String {
    const SHOWN: usize = 12;
    let rest = if names.len() > SHOWN { ", ..." } else { "" };
    format!("{}{rest}", names[..names.len().min(SHOWN)].join(", "))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn check_names(writes: &[(&str, u64, u64)], primaries: &[&str]) -> bool {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let write = |(server, began, ended): &(&str, u64, u64)| Write {
            server: (*server).to_owned(),
            began: at(*began),
            ended: at(*ended),
        };
        let primaries: Vec<_> = primaries.iter().map(|it| (*it).to_owned()).collect();
        check(writes.iter().map(write).collect(), &primaries).is_ok()
    }

    #[test]
    fn writers_follow_the_primaries() {
        let moved = [("a", 0, 1), ("a", 1, 5), ("b", 3, 4), ("b", 5, 6)];
        assert!(check_names(&moved, &["a", "b"]));
        assert!(check_names(&moved, &["a", "c", "b"]));
        assert!(!check_names(&moved, &["b", "a"]));
        assert!(!check_names(&moved, &["a"]));
        let back = [("a", 0, 1), ("b", 3, 4), ("a", 5, 6)];
        assert!(check_names(&back, &["a", "b", "a"]));
        assert!(!check_names(&back, &["a", "b"]));
    }

    #[test]
    fn two_that_write_at_once_are_found() {
        let both = [("a", 0, 1), ("b", 3, 4), ("a", 4, 5), ("b", 5, 6)];
        assert!(!check_names(&both, &["a", "b"]));
        // An answer that was under way is none of that.
        let late = [("a", 0, 1), ("a", 2, 9), ("b", 3, 4), ("b", 5, 6)];
        assert!(check_names(&late, &["a", "b"]));
    }
}
