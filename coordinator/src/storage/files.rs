//! The few things that the log does to files, behind a trait: real ones here, in tests ones that forget what was not synced.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::PathBuf,
};

/// One folder without folders in it.
pub(super) trait Folder: Send {
    /// What errors name.
    fn path(&self) -> PathBuf;
    fn names(&self) -> io::Result<Vec<String>>;
    /// Makes a new, empty file in place of what had that name.
    fn create(&self, name: &str) -> io::Result<Box<dyn LogFile>>;
    fn open(&self, name: &str) -> io::Result<Box<dyn LogFile>>;
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Until here, what happened to names may be forgotten.
    fn sync(&self) -> io::Result<()>;
}

/// One file in it.
pub(super) trait LogFile: Send {
    fn read(&self) -> io::Result<Vec<u8>>;
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Until here, what was written may be forgotten, all or parts of it.
    fn sync(&self) -> io::Result<()>;
}

/// A folder of the real file system.
pub(super) struct RealFolder(pub(super) PathBuf);

impl Folder for RealFolder {
    fn path(&self) -> PathBuf {
        self.0.clone()
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn LogFile>> {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(true);
        Ok(Box::new(RealFile(options.open(self.0.join(name))?)))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn LogFile>> {
        let mut options = File::options();
        let file = options.read(true).write(true).open(self.0.join(name))?;
        Ok(Box::new(RealFile(file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }
}

struct RealFile(File);

impl LogFile for RealFile {
    fn read(&self) -> io::Result<Vec<u8>> {
        let length = usize::try_from(self.0.metadata()?.len()).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length];
        self.0.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}
