//! Makes a data directory: `mysqld --initialize-insecure`, then one start apart from everybody that makes the accounts.
//!
//! It touches only a directory that was empty when it began. A marker in the agent's data directory says that it has
//! begun; what is found under that marker later is half-made and ours, and made anew. Everything else is left alone.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use nix::unistd::{Uid, User};
use tokio::{process::Command, time::timeout};

pub use super::accounts::{PasswordError, Passwords};
use super::{
    Layout, accounts,
    binaries::Binaries,
    my_cnf::{MyCnfError, Purpose, Settings},
};
use crate::guard::{process, sync_parent, write_durably};

/// A slow disk takes minutes to write the 200 MiB of a fresh data directory; longer is a fault.
const INITIALISE_TIMEOUT: Duration = Duration::from_secs(600);
/// The first start writes little.
const ACCOUNTS_TIMEOUT: Duration = Duration::from_secs(300);
/// What a fresh data directory, its redo log and a first binary log need, with room to run.
pub const FREE_BYTES_MIN: u64 = 300 << 20;
/// Files of a half-made data directory that are looked at when one left-over server is searched and ended.
const LEFTOVER_ROUNDS_MAX: usize = 100;
const LEFTOVER_WAIT: Duration = Duration::from_millis(100);
/// In mysqld's data directory: whose it is.
pub const OWNER_FILE: &str = "vitrail-tablet";

/// Why there is no data directory to start mysqld on. Nothing was touched unless the text says so.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    #[error("{}: {reason}", path.display())]
    Unfit { path: PathBuf, reason: String },
    #[error("{what} {}: {source}", path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(transparent)]
    MyCnf(#[from] MyCnfError),
    #[error(transparent)]
    Password(#[from] PasswordError),
    #[error("mysqld could not {step}: {reason}; its words are in {}", log.display())]
    Mysqld {
        step: &'static str,
        reason: String,
        log: PathBuf,
    },
}

impl InitError {
    fn unfit(path: &Path, reason: impl Into<String>) -> Self {
        Self::Unfit {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }

    fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}

/// What is needed to make a data directory.
#[derive(Debug)]
pub struct Init<'a> {
    pub settings: &'a Settings,
    pub binaries: &'a Binaries,
    pub passwords: &'a Passwords,
    /// Whose data it is, as in `zone1-100`; a directory of somebody else is refused.
    pub owner: &'a str,
}

/// What was found or done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prepared {
    /// It is ours and complete; it may hold data.
    Found,
    /// It was made now, and holds nothing but the accounts.
    Made,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contents {
    Empty,
    Ours,
    HalfMade,
}

impl Init<'_> {
    /// Whether there is a data directory of ours already, or what speaks against one. Touches nothing.
    pub fn check(&self) -> Result<(), InitError> {
        self.contents().map(|_| ())
    }

    /// Sees to it that there is one. Called while no mysqld is started by the guard.
    pub async fn prepare(&self) -> Result<Prepared, InitError> {
        let contents = self.contents()?;
        if contents == Contents::Ours {
            self.settings.write(Purpose::Run)?;
            return Ok(Prepared::Found);
        }
        // All that can be refused is refused before anything is touched.
        let statements = accounts::statements(self.passwords)?;
        self.settings.render(Purpose::Run)?;
        let marker = self.marker();
        if contents == Contents::HalfMade {
            self.clear_half_made().await?;
        }
        write_durably(&marker, self.dir().as_os_str().as_encoded_bytes())
            .map_err(InitError::io("cannot write", &marker))?;
        self.make_directory()?;
        self.initialise().await?;
        self.make_accounts(&statements).await?;
        let owner = self.dir().join(OWNER_FILE);
        write_durably(&owner, self.owner.as_bytes())
            .map_err(InitError::io("cannot write", &owner))?;
        fs::remove_file(&marker).map_err(InitError::io("cannot remove", &marker))?;
        sync_parent(&marker).map_err(InitError::io("cannot sync", &marker))?;
        Ok(Prepared::Made)
    }

    fn layout(&self) -> &Layout {
        &self.settings.layout
    }

    fn dir(&self) -> &Path {
        &self.layout().mysql_dir
    }

    fn marker(&self) -> PathBuf {
        self.layout().data_dir.join("mysql-initialising")
    }

    fn contents(&self) -> Result<Contents, InitError> {
        let dir = self.dir();
        self.check_user()?;
        let marked = fs::read(self.marker()).ok();
        let is_marked = marked.is_some_and(|path| path == dir.as_os_str().as_encoded_bytes());
        let found = match fs::metadata(dir) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.check_space()?;
                return Ok(Contents::Empty);
            }
            Err(error) => return Err(InitError::io("cannot look at", dir)(error)),
        };
        check_owner(dir, &found)?;
        if is_marked {
            self.check_space()?;
            return Ok(Contents::HalfMade);
        }
        let mut entries = fs::read_dir(dir).map_err(InitError::io("cannot list", dir))?;
        if entries.all(|entry| entry.is_ok_and(|entry| entry.file_name() == "lost+found")) {
            self.check_space()?;
            return Ok(Contents::Empty);
        }
        match fs::read_to_string(dir.join(OWNER_FILE)) {
            Ok(owner) if owner == self.owner => Ok(Contents::Ours),
            Ok(owner) => Err(InitError::unfit(
                dir,
                format!(
                    "this is the data of tablet {owner}, and this agent is {}: name another data_dir in [mysqld], or \
                     start the agent of {owner}",
                    self.owner
                ),
            )),
            Err(_) => Err(InitError::unfit(
                dir,
                "not empty, and not made by Vitrail: name an empty or absent data_dir in [mysqld]",
            )),
        }
    }

    fn check_user(&self) -> Result<(), InitError> {
        let wanted = self.settings.user.as_deref();
        let dir = &self.layout().data_dir;
        if Uid::effective().is_root() && wanted.is_none() {
            return Err(InitError::unfit(
                dir,
                "the agent runs as root, and mysqld should not: run the agent as a user of its own, or set `user` in \
                 [mysqld] to the account that mysqld is to use",
            ));
        }
        match wanted.map(User::from_name) {
            Some(Ok(None)) => Err(InitError::unfit(
                dir,
                format!(
                    "there is no user '{}' on this host",
                    wanted.unwrap_or_default()
                ),
            )),
            _ => Ok(()),
        }
    }

    fn check_space(&self) -> Result<(), InitError> {
        let dir = self.dir();
        let existing = dir.ancestors().find(|path| path.exists());
        let Some(existing) = existing else {
            return Ok(());
        };
        let space = nix::sys::statvfs::statvfs(existing)
            .map_err(|error| InitError::io("cannot look at", existing)(error.into()))?;
        let free_bytes = space.blocks_available() * space.fragment_size();
        if free_bytes >= FREE_BYTES_MIN {
            return Ok(());
        }
        Err(InitError::unfit(
            dir,
            format!(
                "its disk has {} MiB free, and a data directory needs {} MiB: make room, or name another data_dir",
                free_bytes >> 20,
                FREE_BYTES_MIN >> 20
            ),
        ))
    }

    fn make_directory(&self) -> Result<(), InitError> {
        let dir = self.dir();
        if !dir.exists() {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir)
                .map_err(InitError::io("cannot create", dir))?;
        }
        // As root, for an account that mysqld changes to by itself.
        if Uid::effective().is_root()
            && let Some(name) = &self.settings.user
            && let Ok(Some(user)) = User::from_name(name)
        {
            nix::unistd::chown(dir, Some(user.uid), Some(user.gid))
                .map_err(|error| InitError::io("cannot give away", dir)(error.into()))?;
        }
        Ok(())
    }

    /// What an earlier agent began: its mysqld may still be at work.
    async fn clear_half_made(&self) -> Result<(), InitError> {
        let dir = self.dir();
        for _ in 0..LEFTOVER_ROUNDS_MAX {
            let Some(left) = process::find_in(dir) else {
                break;
            };
            process::kill(left).map_err(InitError::io("cannot end the mysqld in", dir))?;
            tokio::time::sleep(LEFTOVER_WAIT).await;
        }
        if process::find_in(dir).is_some() {
            return Err(InitError::unfit(
                dir,
                "half-made by an earlier start, whose mysqld does not end: end it and start again",
            ));
        }
        for entry in fs::read_dir(dir).map_err(InitError::io("cannot list", dir))? {
            let entry = entry.map_err(InitError::io("cannot list", dir))?;
            let path = entry.path();
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if entry.file_name() == "lost+found" {
                continue;
            }
            let removed = if is_dir {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            };
            removed.map_err(InitError::io("cannot remove", &path))?;
        }
        Ok(())
    }

    async fn initialise(&self) -> Result<(), InitError> {
        let file = self.settings.write(Purpose::Initialise)?;
        let arguments = vec![OsString::from("--initialize-insecure")];
        let step = "initialise its data directory";
        let result = self.run(&file, arguments, step, INITIALISE_TIMEOUT).await;
        let _ = fs::remove_file(&file);
        result
    }

    async fn make_accounts(&self, statements: &str) -> Result<(), InitError> {
        let file = self.settings.write(Purpose::Run)?;
        let secret = self.layout().data_dir.join("accounts.sql");
        let _ = fs::remove_file(&secret);
        self.write_secret(&secret, statements)
            .map_err(InitError::io("cannot write", &secret))?;
        let mut init_file = OsString::from("--init-file=");
        init_file.push(&secret);
        let mut arguments = vec![init_file];
        // Nobody else reaches it, and nothing it does is ever replicated.
        arguments.extend(
            [
                "--skip-networking",
                "--skip-log-bin",
                "--log-replica-updates=OFF",
                "--super-read-only=OFF",
                "--read-only=OFF",
            ]
            .map(OsString::from),
        );
        let step = "make its accounts";
        let result = self.run(&file, arguments, step, ACCOUNTS_TIMEOUT).await;
        let _ = fs::remove_file(&secret);
        result
    }

    fn write_secret(&self, path: &Path, text: &str) -> io::Result<()> {
        use std::io::Write;
        let mut file = fs::File::options()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(path)?;
        if Uid::effective().is_root()
            && let Some(name) = &self.settings.user
            && let Ok(Some(user)) = User::from_name(name)
        {
            nix::unistd::fchown(&file, Some(user.uid), Some(user.gid))?;
        }
        file.write_all(text.as_bytes())
    }

    async fn run(
        &self,
        my_cnf: &Path,
        arguments: Vec<OsString>,
        step: &'static str,
        limit: Duration,
    ) -> Result<(), InitError> {
        let log = self.layout().data_dir.join("mysql-initialise.log");
        let failed = |reason: String| InitError::Mysqld {
            step,
            reason,
            log: log.clone(),
        };
        let _ = fs::remove_file(&log);
        let mut defaults = OsString::from("--defaults-file=");
        defaults.push(my_cnf);
        let mut log_error = OsString::from("--log-error=");
        log_error.push(&log);
        let running = Command::new(&self.binaries.mysqld)
            .arg(defaults)
            .args(arguments)
            .arg(log_error)
            .current_dir(self.dir())
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = timeout(limit, running)
            .await
            .map_err(|_| failed(format!("it did not end within {} s", limit.as_secs())))?
            .map_err(|error| failed(error.to_string()))?;
        let said = fs::read_to_string(&log).unwrap_or_default();
        let said = said + &String::from_utf8_lossy(&output.stderr);
        // A failing account statement is only logged.
        let complaint = said.lines().find(|line| line.contains("[ERROR]"));
        match complaint {
            Some(line) => Err(failed(line.trim().to_owned())),
            None if !output.status.success() => Err(failed(output.status.to_string())),
            None => Ok(()),
        }
    }
}

fn check_owner(dir: &Path, found: &fs::Metadata) -> Result<(), InitError> {
    if !found.is_dir() {
        return Err(InitError::unfit(
            dir,
            "not a directory: name another data_dir in [mysqld]",
        ));
    }
    let me = Uid::effective();
    if me.is_root() || found.uid() == me.as_raw() {
        return Ok(());
    }
    let name = |uid: Uid| match User::from_uid(uid) {
        Ok(Some(user)) => user.name,
        _ => uid.to_string(),
    };
    Err(InitError::unfit(
        dir,
        format!(
            "it belongs to user {}, and the agent runs as {}: give it to that user, or name another data_dir",
            name(Uid::from_raw(found.uid())),
            name(me)
        ),
    ))
}
