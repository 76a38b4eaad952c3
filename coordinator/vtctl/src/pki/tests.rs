//! A life of a PKI: made, issued from, rotated, its CA replaced; and what is refused on the way.

use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::failure;

fn request(role: Role, name: &str, hosts: &[&str]) -> Request {
    Request {
        role,
        name: name.to_owned(),
        hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        valid: days(30),
    }
}

fn made() -> (tempfile::TempDir, Pki) {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::init(&dir.path().join("pki"), &Authority::new().unwrap()).unwrap();
    (dir, pki)
}

fn kind<T>(result: anyhow::Result<T>) -> u8 {
    failure::exit_code(&result.err().unwrap())
}

#[test]
fn certificates_say_what_was_asked_and_are_for_their_owner_alone() {
    let (_dir, pki) = made();
    let hosts = ["db1.example", "10.0.0.1", "::1"];
    let entry = pki
        .issue(&request(Role::Coordinator, "c1", &hosts))
        .unwrap();
    assert_eq!(entry.leaf.identity.role, Some(Role::Coordinator));
    assert_eq!(&*entry.leaf.identity.name, "c1");
    assert_eq!(entry.leaf.hosts, hosts);
    assert_eq!((remaining_s(&entry.leaf) + 600) / 3_600, 30 * 24);
    entry.files.load().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for (path, expected) in [
        (entry.files.key.clone(), 0o600),
        (pki.dir.join("ca/current.key"), 0o600),
        (entry.files.certificate.clone(), 0o644),
        (pki.dir.clone(), 0o700),
        (entry.files.key.parent().unwrap().to_owned(), 0o700),
    ] {
        assert_eq!(mode(&path), expected, "{}", path.display());
    }
    let again = pki.issue(&request(Role::Coordinator, "c1", &hosts));
    assert_eq!(kind(again), 4);
    assert_eq!(kind(Pki::init(&pki.dir, &Authority::new().unwrap())), 4);
    assert_eq!(kind(Pki::open(Path::new("/nowhere"))), 3);
}

#[test]
fn useless_requests_are_refused() {
    let (_dir, pki) = made();
    for (role, name, hosts) in [
        (Role::Agent, "", &[][..]),
        (Role::Agent, "../x", &[]),
        (Role::Agent, ".x", &[]),
        (Role::Coordinator, "c1", &[]),
        (Role::Operator, "ann", &["db1"]),
        (Role::Agent, "a", &["db1:15100"]),
    ] {
        assert_eq!(
            kind(pki.issue(&request(role, name, hosts))),
            2,
            "{role} {name}"
        );
    }
    assert_eq!(pki.issued().unwrap(), []);
}

#[test]
fn leaves_are_renewed_with_new_keys() {
    let (_dir, pki) = made();
    let first = pki.issue(&request(Role::Agent, "a", &["db1"])).unwrap();
    let key = fs::read(&first.files.key).unwrap();
    let second = pki.rotate(&pki.issued().unwrap()).unwrap().remove(0);
    assert_eq!(second.leaf.hosts, first.leaf.hosts);
    assert_eq!(
        second.leaf.valid().as_secs() / 60,
        first.leaf.valid().as_secs() / 60
    );
    assert_ne!(fs::read(&second.files.key).unwrap(), key);
    second.files.load().unwrap();
}

#[test]
fn the_ca_is_replaced_without_a_moment_of_distrust() {
    let (_dir, pki) = made();
    let agent = pki.issue(&request(Role::Agent, "a", &[])).unwrap();
    assert_eq!(kind(pki.finish()), 4);
    // Everybody who has old files accepts both, and is accepted.
    pki.rotate_authority(&Authority::new().unwrap()).unwrap();
    assert_eq!(pki.authorities().unwrap().len(), 2);
    assert_eq!(kind(pki.rotate_authority(&Authority::new().unwrap())), 4);
    agent.files.load().unwrap();
    assert!(!pki.issued().unwrap()[0].current);
    assert_eq!(kind(pki.finish()), 4, "the agent would be locked out");
    let late = pki.issue(&request(Role::Agent, "b", &[])).unwrap();
    assert!(late.current);
    pki.rotate(&pki.issued().unwrap()).unwrap();
    pki.finish().unwrap();
    assert_eq!(pki.authorities().unwrap().len(), 1);
    for entry in pki.issued().unwrap() {
        assert!(entry.current);
        entry.files.load().unwrap();
    }
}

#[test]
fn a_ca_of_the_user_is_taken_if_it_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = (dir.path().join("ca.pem"), dir.path().join("ca.key"));
    let own = Authority::new().unwrap();
    disk::write(&certificate, 0o644, own.certificate()).unwrap();
    disk::write(&key, 0o644, &own.key()).unwrap();
    assert_eq!(
        kind(Authority::load(&certificate, &key)),
        2,
        "others may read the key"
    );
    disk::write(&key, 0o600, &own.key()).unwrap();
    let taken = Authority::load(&certificate, &key).unwrap();
    let pki = Pki::init(&dir.path().join("pki"), &taken).unwrap();
    pki.issue(&request(Role::Viewer, "v", &[])).unwrap();
    assert_eq!(kind(pki.rotate_authority(&taken)), 4, "it is in use");
    drop(pki);

    let other = Authority::new().unwrap();
    disk::write(&key, 0o600, &other.key()).unwrap();
    let mixed = Authority::load(&certificate, &key).unwrap();
    assert_eq!(kind(Pki::init(&dir.path().join("mixed"), &mixed)), 2);
    assert!(!dir.path().join("mixed").exists());
    let (leaf, leaf_key) = own.issue(&request(Role::Agent, "a", &["h"])).unwrap();
    disk::write(&certificate, 0o644, &leaf).unwrap();
    disk::write(&key, 0o600, &leaf_key).unwrap();
    let leaf = Authority::load(&certificate, &key).unwrap();
    assert_eq!(kind(leaf.check().map(drop)), 2, "no CA");
}
