//! What a window keeps, forgets and hands over.

use super::*;

fn entry(revision: u64, bytes: usize) -> Arc<Entry> {
    Arc::new(Entry {
        revision: Revision(revision),
        deltas: vec![Delta {
            kind: RecordKind::Cell,
            bytes: vec![0; bytes].into(),
        }],
    })
}

fn revisions(window: &Window, after: u64) -> Option<Vec<u64>> {
    let entries = window.after(Revision(after))?;
    Some(entries.map(|entry| entry.revision.0).collect())
}

#[test]
fn everything_after_a_revision_is_there_or_it_is_said() {
    let mut window = Window::starting_at(Revision(5));
    assert_eq!(revisions(&window, 5), Some(vec![]));
    assert_eq!(revisions(&window, 4), None);
    for revision in [7, 8, 12] {
        window.push(entry(revision, 1));
    }
    let cases = [
        (4, None),
        (5, Some(vec![7, 8, 12])),
        (7, Some(vec![8, 12])),
        (9, Some(vec![12])),
        (12, Some(vec![])),
        (99, Some(vec![])),
    ];
    for (after, expected) in cases {
        assert_eq!(revisions(&window, after), expected, "after {after}");
    }
}

#[test]
fn it_is_bounded_by_count_and_by_bytes() {
    let mut window = Window::default();
    let last = ENTRIES_MAX as u64 + 10;
    for revision in 1..=last {
        window.push(entry(revision, 1));
    }
    assert_eq!(window.start(), Revision(10));
    assert_eq!(revisions(&window, 9), None);
    assert_eq!(revisions(&window, 10).unwrap().len(), ENTRIES_MAX);
    window.push(entry(last + 1, BYTES_MAX - 1));
    assert_eq!(revisions(&window, last), Some(vec![last + 1]));
    assert_eq!(window.start(), Revision(last - 1));
    window.push(entry(last + 2, BYTES_MAX + 1));
    assert_eq!(window.start(), Revision(last + 2), "larger than everything");
}

#[test]
fn a_follower_has_the_same_or_starts_anew() {
    let mut source = Window::default();
    let mut follower = Window::default();
    for revision in 1..=3 {
        source.push(entry(revision, 1));
        follower.follow(&source);
        follower.follow(&source);
        assert_eq!(follower, source);
    }
    let mut anew = Window::starting_at(Revision(9));
    anew.push(entry(10, 1));
    follower.follow(&anew);
    assert_eq!(follower, anew);
    let empty = Window::starting_at(Revision(20));
    follower.follow(&empty);
    assert_eq!(follower, empty, "a snapshot after which nothing changed");
}

#[test]
#[should_panic(expected = "cannot follow")]
fn time_does_not_go_back() {
    let mut window = Window::starting_at(Revision(5));
    window.push(entry(5, 1));
}
