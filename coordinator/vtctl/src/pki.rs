//! A small PKI in a directory: one CA (two while one replaces the other) and the certificates it issued. Every change is written
//! under another name first and flushed, so that a crash leaves old files or new ones. Talks to nobody.
//!
//! ```text
//! ca.pem                      the CAs that everybody accepts
//! ca/current.pem, .key        the CA that signs
//! issued/ROLE-NAME/           certificate.pem, key.pem, ca.pem: what one program gets
//! ```

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use vt_tls::{
    files::{Contents, TlsFiles},
    role::{Leaf, Role},
};

use crate::failure::{Failure, Kind};

pub mod authority;
mod disk;

use authority::{Authority, CLOCK_SKEW};
use disk::{make_dir, write};

const BUNDLE: &str = "ca.pem";
const CERTIFICATE: &str = "certificate.pem";
const KEY: &str = "key.pem";
/// Days that a certificate is good for, unless somebody says otherwise.
pub const LEAF_DAYS: u32 = 365;
/// Days of a CA of our own.
pub const AUTHORITY_DAYS: u32 = 3_650;
/// Names become names of directories and stand in logs.
const NAME_LENGTH_MAX: usize = 48;

/// What a certificate is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub role: Role,
    pub name: String,
    /// Names and addresses under which it is reached.
    pub hosts: Vec<String>,
    pub valid: Duration,
}

impl Request {
    /// A request that can be fulfilled.
    pub fn check(&self) -> Result<(), Failure> {
        let refuse = |what: String, next: &str| Err(Failure::new(Kind::Usage, what).next(next));
        let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if self.name.is_empty()
            || self.name.len() > NAME_LENGTH_MAX
            || self.name.starts_with('.')
            || !self.name.chars().all(good)
        {
            return refuse(
                format!("'{}' is no name of a certificate", self.name),
                "use 1 to 48 letters, digits, -, _ and ., not a . first",
            );
        }
        match self.role {
            Role::Coordinator if self.hosts.is_empty() => refuse(
                "a coordinator's certificate names the hosts under which it is reached".to_owned(),
                "give each as --host NAME or --host ADDRESS",
            ),
            Role::Operator | Role::Viewer if !self.hosts.is_empty() => refuse(
                format!("a certificate of the role {} has no host", self.role),
                "leave --host out: nobody connects to its holder",
            ),
            _ => Ok(()),
        }
    }

    fn folder(&self) -> String {
        format!("{}-{}", self.role, self.name)
    }
}

/// A certificate of the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where its files lie.
    pub files: TlsFiles,
    pub leaf: Leaf,
    /// Signed by the CA that signs now; false: by the one that is being replaced.
    pub current: bool,
}

/// The directory.
pub struct Pki {
    dir: PathBuf,
    /// One command changes it at a time; the kernel drops the lock with the process.
    _lock: fs::File,
}

impl Pki {
    /// Makes the directory with its CA: a new one, or that of the user.
    pub fn init(dir: &Path, authority: &Authority) -> anyhow::Result<Self> {
        authority.check()?;
        make_dir(dir)?;
        let pki = Self::lock(dir)?;
        if pki.current_certificate().exists() {
            return Err(Failure::new(
                Kind::Refused,
                format!("{} holds a PKI already", dir.display()),
            )
            .next("`vtctl pki show` lists it; name another directory with --pki-dir")
            .into());
        }
        make_dir(&dir.join("ca"))?;
        make_dir(&dir.join("issued"))?;
        pki.install(authority)?;
        write(&dir.join(BUNDLE), 0o644, authority.certificate())?;
        Ok(pki)
    }

    /// The PKI of the directory.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        if !dir.join("ca/current.pem").exists() {
            return Err(
                Failure::new(Kind::NotFound, format!("{} holds no PKI", dir.display()))
                    .next("`vtctl pki init` makes one; --pki-dir names another directory")
                    .into(),
            );
        }
        Self::lock(dir)
    }

    fn lock(dir: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            dir: dir.to_owned(),
            _lock: disk::lock(dir)?,
        })
    }

    /// Makes a certificate and its files. One that is there already is refused: it is replaced by a rotation.
    pub fn issue(&self, request: &Request) -> anyhow::Result<Entry> {
        request.check()?;
        if self.files(&request.folder()).certificate.exists() {
            let message = format!(
                "there is a certificate of {} {}",
                request.role, request.name
            );
            return Err(Failure::new(Kind::Refused, message)
                .next(format!(
                    "`vtctl pki rotate {} {}` makes a new one with the same hosts; for others remove {}",
                    request.role,
                    request.name,
                    self.dir.join("issued").join(request.folder()).display()
                ))
                .into());
        }
        self.put(request)
    }

    /// Writes a certificate, new or in place of an older one.
    fn put(&self, request: &Request) -> anyhow::Result<Entry> {
        let authority = self.authority()?;
        let (certificate, key) = authority.issue(request)?;
        let bundle = self.bundle()?;
        let files = self.files(&request.folder());
        let contents = Contents::new(&certificate, &key, &bundle);
        let loaded = files.build(contents).context("check what was made")?;
        make_dir(&self.dir.join("issued").join(request.folder()))?;
        write(&files.ca, 0o644, &bundle)?;
        write(&files.key, 0o600, &key)?;
        write(&files.certificate, 0o644, &certificate)?;
        Ok(Entry {
            files,
            leaf: loaded.leaf.clone(),
            current: true,
        })
    }

    /// All certificates, by role and name.
    pub fn issued(&self) -> anyhow::Result<Vec<Entry>> {
        let folder = self.dir.join("issued");
        let mut names = Vec::new();
        let entries =
            fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))?;
        for entry in entries {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        let authority = self.current()?;
        let mut all = Vec::new();
        for name in names {
            let files = self.files(&name);
            let text = match fs::read(&files.certificate) {
                Ok(text) => text,
                // A crash before the first certificate was written: there is nothing yet.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    return Err(error)
                        .with_context(|| format!("read {}", files.certificate.display()));
                }
            };
            let leaf = Leaf::read_pem(&text)
                .map_err(|what| anyhow::anyhow!("{}: {what}", files.certificate.display()))?;
            all.push(Entry {
                current: leaf.is_signed_by(&authority),
                files,
                leaf,
            });
        }
        Ok(all)
    }

    /// The CAs that are accepted; the signing one first.
    pub fn authorities(&self) -> anyhow::Result<Vec<Leaf>> {
        let bundle = self.bundle()?;
        let all = Leaf::read_all_pem(bundle.as_bytes());
        all.map_err(|what| anyhow::anyhow!("{}: {what}", self.dir.join(BUNDLE).display()))
    }

    /// New keys and certificates in place of these, for the same roles, names, hosts and time.
    pub fn rotate(&self, entries: &[Entry]) -> anyhow::Result<Vec<Entry>> {
        let renew = |entry: &Entry| {
            let identity = &entry.leaf.identity;
            let role = identity.role.with_context(|| {
                let certificate = entry.files.certificate.display();
                format!("{certificate} has no role that is known")
            })?;
            self.put(&Request {
                role,
                name: identity.name.to_string(),
                hosts: entry.leaf.hosts.clone(),
                valid: entry.leaf.valid().saturating_sub(CLOCK_SKEW),
            })
        };
        entries.iter().map(renew).collect()
    }

    /// Begins to replace the CA: everybody accepts the old one and the new one, which signs from now on.
    pub fn rotate_authority(&self, fresh: &Authority) -> anyhow::Result<()> {
        fresh.check()?;
        if self.authorities()?.len() > 1 {
            return Err(Failure::new(Kind::Refused, "the CA is being replaced already")
                .next("`vtctl pki rotate` makes the certificates anew, then `vtctl pki rotate finish` drops the old CA")
                .into());
        }
        let old = self.bundle()?;
        if Leaf::read_pem(fresh.certificate().as_bytes()) == Leaf::read_pem(old.as_bytes()) {
            return Err(
                Failure::new(Kind::Refused, "this is the CA that is in use already")
                    .next(
                        "bring another one, or leave --ca-cert and --ca-key out for one of our own",
                    )
                    .into(),
            );
        }
        // Who gets files between these two steps accepts both and is signed by the old one.
        self.spread(&format!("{}{old}", with_newline(fresh.certificate())))?;
        self.install(fresh)
    }

    /// Ends it: the old CA is accepted no longer. Refused while a certificate is of the old one.
    pub fn finish(&self) -> anyhow::Result<()> {
        if self.authorities()?.len() < 2 {
            return Err(Failure::new(Kind::Refused, "no CA is being replaced")
                .next("`vtctl pki rotate ca` begins it")
                .into());
        }
        let issued = self.issued()?;
        let old: Vec<_> = issued.iter().filter(|entry| !entry.current).collect();
        if !old.is_empty() {
            let names: Vec<_> = old.iter().map(|it| it.leaf.identity.to_string()).collect();
            let message = format!("certificates of the old CA: {}", names.join(", "));
            return Err(Failure::new(Kind::Refused, message)
                .next("`vtctl pki rotate` makes them anew; put them where they belong before you finish")
                .into());
        }
        let current = fs::read_to_string(self.current_certificate()).context("read the CA")?;
        self.spread(&current)
    }

    /// Writes which CAs are accepted, for the directory and for each holder of a certificate.
    fn spread(&self, bundle: &str) -> anyhow::Result<()> {
        write(&self.dir.join(BUNDLE), 0o644, bundle)?;
        for entry in self.issued()? {
            write(&entry.files.ca, 0o644, bundle)?;
        }
        Ok(())
    }

    fn install(&self, authority: &Authority) -> anyhow::Result<()> {
        // The key first: a CA whose key is missing could not even be told from one that is whole.
        write(&self.dir.join("ca/current.key"), 0o600, &authority.key())?;
        write(&self.current_certificate(), 0o644, authority.certificate())
    }

    fn authority(&self) -> anyhow::Result<Authority> {
        Authority::load(
            &self.current_certificate(),
            &self.dir.join("ca/current.key"),
        )
    }

    fn current(&self) -> anyhow::Result<Leaf> {
        let path = self.current_certificate();
        let text = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        Leaf::read_pem(&text).map_err(|what| anyhow::anyhow!("{}: {what}", path.display()))
    }

    fn current_certificate(&self) -> PathBuf {
        self.dir.join("ca/current.pem")
    }

    fn bundle(&self) -> anyhow::Result<String> {
        let path = self.dir.join(BUNDLE);
        fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    }

    fn files(&self, folder: &str) -> TlsFiles {
        files_in(&self.dir.join("issued").join(folder))
    }

    /// Where the files of a certificate lie, there or not.
    pub fn files_of(dir: &Path, role: Role, name: &str) -> TlsFiles {
        files_in(&dir.join("issued").join(format!("{role}-{name}")))
    }
}

/// The three files of one folder, as every program names them.
pub fn files_in(folder: &Path) -> TlsFiles {
    TlsFiles {
        certificate: folder.join(CERTIFICATE),
        key: folder.join(KEY),
        ca: folder.join(BUNDLE),
    }
}

/// Days as a span of time.
pub fn days(days: u32) -> Duration {
    Duration::from_secs(u64::from(days) * 86_400)
}

/// Seconds until then; negative if it has passed.
pub fn remaining_s(leaf: &Leaf) -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
    leaf.expires_unix_s.saturating_sub(now)
}

fn with_newline(pem: &str) -> String {
    format!("{}\n", pem.trim_end())
}

#[cfg(test)]
mod tests;
