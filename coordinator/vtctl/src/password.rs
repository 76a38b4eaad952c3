//! Passwords of users: asked for or read, hashed here, and kept nowhere. None is ever an argument or a part of an error.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, IsTerminal as _, Write as _},
    path::PathBuf,
};

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use sha1::Digest as _;
use vt_proto::user::PasswordHashes;

use crate::failure::{Failure, Kind};

/// A line that is longer is no password but a mistake.
const LENGTH_MAX: u64 = 4_096;

/// Where a password comes from.
pub enum Source {
    /// The person at the terminal, asked twice; or the first line of what is piped in.
    Input,
    File(PathBuf),
}

impl Source {
    pub fn of(file: Option<PathBuf>) -> Self {
        file.map_or(Self::Input, Self::File)
    }
}

/// What the coordinators keep of the password.
pub fn hashes(source: &Source) -> anyhow::Result<PasswordHashes> {
    let password = match source {
        Source::File(path) => {
            let file = File::open(path).map_err(|error| {
                Failure::new(Kind::Usage, format!("{}: {error}", path.display()))
                    .next("name a file whose first line is the password")
            })?;
            first_line(file)?
        }
        Source::Input if io::stdin().is_terminal() => ask()?,
        Source::Input => first_line(io::stdin().lock())?,
    };
    if password.is_empty() {
        return Err(Failure::new(Kind::Usage, "the password is empty")
            .next("give one: routers let nobody in without")
            .into());
    }
    Ok(hash(password.as_bytes()))
}

/// The hashes of a password that is at hand.
pub fn hash(password: &[u8]) -> PasswordHashes {
    PasswordHashes {
        native: sha1::Sha1::digest(sha1::Sha1::digest(password)).into(),
        sha2: sha2::Sha256::digest(sha2::Sha256::digest(password)).into(),
    }
}

fn first_line(from: impl io::Read) -> anyhow::Result<String> {
    let mut line = String::new();
    let read = BufReader::new(from.take(LENGTH_MAX)).read_line(&mut line);
    // The error of a line that is no text could quote it.
    read.map_err(|error| {
        Failure::new(
            Kind::Usage,
            format!("the password cannot be read: {}", error.kind()),
        )
    })?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

fn ask() -> anyhow::Result<String> {
    let silent = Silent::begin()?;
    let password = prompt("password: ")?;
    let again = prompt("the same again: ")?;
    drop(silent);
    if password != again {
        return Err(Failure::new(Kind::Usage, "the two passwords differ")
            .next("try again")
            .into());
    }
    Ok(password)
}

fn prompt(text: &str) -> anyhow::Result<String> {
    let mut out = io::stderr().lock();
    write!(out, "{text}")?;
    out.flush()?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    // The Enter was not shown either.
    writeln!(out)?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

/// A terminal that does not show what is typed, for as long as this lives.
struct Silent(Termios);

impl Silent {
    fn begin() -> anyhow::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(io::stdin(), SetArg::TCSANOW, &silent)?;
        Ok(Self(before))
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        // If it does not work the person sees it: `reset` helps.
        let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_counts() {
        for (given, read) in [
            ("secret\nmore", "secret"),
            ("se cret\r\n", "se cret"),
            ("", ""),
        ] {
            assert_eq!(first_line(given.as_bytes()).unwrap(), read);
        }
        let error = first_line(&[0xFF, b's', b'\n'][..]).unwrap_err();
        assert!(!error.to_string().contains("255"));
    }

    /// As `SELECT SHA1(UNHEX(SHA1('secret')))` and `SHA2(UNHEX(SHA2('secret', 256)), 256)` say.
    #[test]
    fn hashes_are_those_of_mysql() {
        let hex = |bytes: &[u8]| -> String { bytes.iter().map(|it| format!("{it:02x}")).collect() };
        let hashes = hash(b"secret");
        assert_eq!(
            hex(&hashes.native),
            "14e65567abdb5135d0cfd9a70b3032c179a49ee7"
        );
        assert_eq!(hashes.sha2.len(), 32);
    }
}
