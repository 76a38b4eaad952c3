//! Passwords on the wire: `mysql_native_password` and `caching_sha2_password`, both sides.
//!
//! The server side holds double hashes only, so it can verify a client and never learns or keeps a
//! password. RSA is not here: the shell encrypts what [`obfuscate`] returns.

use sha1::Sha1;
use sha2::{Digest, Sha256};

pub const NATIVE_PLUGIN: &[u8] = b"mysql_native_password";
pub const CACHING_SHA2_PLUGIN: &[u8] = b"caching_sha2_password";

/// Length of the challenge, without the NUL that ends it on the wire.
pub const NONCE_LENGTH: usize = 20;

/// `caching_sha2_password`: the server asks for the public key answer with this byte.
pub const REQUEST_PUBLIC_KEY: u8 = 2;
/// `caching_sha2_password`: the scramble was right, OK follows.
pub const FAST_AUTH_OK: u8 = 3;
/// `caching_sha2_password`: the server needs the password itself.
pub const FULL_AUTH_NEEDED: u8 = 4;

/// The challenge of one handshake. Its bytes are never zero, as clients read it as a C string.
pub type Nonce = [u8; NONCE_LENGTH];

/// What the router keeps of a password: SHA1(SHA1(pw)) and SHA256(SHA256(pw)).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DoubleHashes {
    pub native: [u8; 20],
    pub sha2: [u8; 32],
}

/// Hashes are as good as a password against an attacker with a dictionary: never printed.
impl std::fmt::Debug for DoubleHashes {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("DoubleHashes(..)")
    }
}

impl DoubleHashes {
    #[must_use]
    pub fn of_password(password: &[u8]) -> Self {
        Self {
            native: sha1(&[&sha1(&[password])]),
            sha2: sha256(&[&sha256(&[password])]),
        }
    }

    /// Does `response` prove the password by `mysql_native_password`?
    #[must_use]
    pub fn verify_native(&self, nonce: &Nonce, response: &[u8]) -> bool {
        let Ok(mut stage1) = <[u8; 20]>::try_from(response) else {
            return false;
        };
        xor(&mut stage1, &sha1(&[nonce, &self.native]));
        equal_in_constant_time(&sha1(&[&stage1]), &self.native)
    }

    /// Does `response` prove the password by `caching_sha2_password`'s fast path?
    #[must_use]
    pub fn verify_sha2(&self, nonce: &[u8], response: &[u8]) -> bool {
        let Ok(mut stage1) = <[u8; 32]>::try_from(response) else {
            return false;
        };
        xor(&mut stage1, &sha256(&[&self.sha2, nonce]));
        equal_in_constant_time(&sha256(&[&stage1]), &self.sha2)
    }

    /// Is `password`, received in clear text under TLS, the right one?
    #[must_use]
    pub fn verify_clear(&self, password: &[u8]) -> bool {
        equal_in_constant_time(&sha256(&[&sha256(&[password])]), &self.sha2)
    }
}

/// The client's answer by `mysql_native_password`; empty for an empty password.
#[must_use]
pub fn scramble_native(password: &[u8], nonce: &Nonce) -> Vec<u8> {
    if password.is_empty() {
        return Vec::new();
    }
    let mut answer = sha1(&[password]);
    let stage2 = sha1(&[&answer]);
    xor(&mut answer, &sha1(&[nonce, &stage2]));
    answer.to_vec()
}

/// The client's answer by `caching_sha2_password`; empty for an empty password.
#[must_use]
pub fn scramble_sha2(password: &[u8], nonce: &[u8]) -> Vec<u8> {
    if password.is_empty() {
        return Vec::new();
    }
    let mut answer = sha256(&[password]);
    let stage2 = sha256(&[&answer]);
    xor(&mut answer, &sha256(&[&stage2, nonce]));
    answer.to_vec()
}

/// The NUL-ended password XORed with the challenge: the plain text of the RSA step (OAEP, SHA-1).
#[must_use]
pub fn obfuscate(password: &[u8], nonce: &Nonce) -> Vec<u8> {
    let mut text: Vec<u8> = password.iter().copied().chain([0]).collect();
    for (byte, mask) in text.iter_mut().zip(nonce.iter().cycle()) {
        *byte ^= mask;
    }
    text
}

/// Compares without a time that depends on where the first difference stands.
#[must_use]
pub fn equal_in_constant_time(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len()
        && std::hint::black_box(
            left.iter()
                .zip(right)
                .fold(0u8, |seen, (a, b)| seen | (a ^ b)),
        ) == 0
}

fn sha1(parts: &[&[u8]]) -> [u8; 20] {
    let mut hash = Sha1::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

fn xor(target: &mut [u8], mask: &[u8]) {
    for (byte, mask) in target.iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NONCE: Nonce = *b"0123456789abcdefghij";

    /// What the server prints as `PASSWORD('secret')` in its old form, without the star.
    #[test]
    fn native_double_hash_is_the_servers() {
        let hashes = DoubleHashes::of_password(b"secret");
        let hex: String = hashes
            .native
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect();
        assert_eq!(hex, "14E65567ABDB5135D0CFD9A70B3032C179A49EE7");
    }

    #[test]
    fn hashes_are_not_printed() {
        assert_eq!(
            format!("{:?}", DoubleHashes::of_password(b"secret")),
            "DoubleHashes(..)"
        );
    }

    #[test]
    fn wrong_lengths_are_refused() {
        let hashes = DoubleHashes::of_password(b"secret");
        for length in [0, 1, 19, 20, 21, 31, 32, 33] {
            assert!(!hashes.verify_native(&NONCE, &vec![0; length]));
            assert!(!hashes.verify_sha2(&NONCE, &vec![0; length]));
        }
    }

    #[test]
    fn obfuscation_undoes_itself() {
        let long = b"a password that is longer than the challenge";
        let mut text = obfuscate(long, &NONCE);
        for (byte, mask) in text.iter_mut().zip(NONCE.iter().cycle()) {
            *byte ^= mask;
        }
        assert_eq!(text, [long.as_slice(), b"\0"].concat());
    }

    proptest! {
        #[test]
        fn the_right_password_and_no_other(
            password in proptest::collection::vec(1u8.., 1..40),
            other in proptest::collection::vec(1u8.., 1..40),
        ) {
            let hashes = DoubleHashes::of_password(&password);
            prop_assert!(hashes.verify_native(&NONCE, &scramble_native(&password, &NONCE)));
            prop_assert!(hashes.verify_sha2(&NONCE, &scramble_sha2(&password, &NONCE)));
            prop_assert!(hashes.verify_clear(&password));
            if other != password {
                prop_assert!(!hashes.verify_native(&NONCE, &scramble_native(&other, &NONCE)));
                prop_assert!(!hashes.verify_sha2(&NONCE, &scramble_sha2(&other, &NONCE)));
                prop_assert!(!hashes.verify_clear(&other));
            }
        }
    }
}
