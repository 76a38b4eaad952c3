//! A small filesystem of one host: ext4 in a file, mounted in the mount namespace of this process. It can be filled, frozen,
//! and made to forget what was not synced, as by a power cut.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Write},
    path::PathBuf,
};

use anyhow::Context;
use nix::sys::statvfs::statvfs;

use super::shell::run_with;

/// The file that takes all the space.
const FILLER: &str = "filler";
/// Drops what was not synced: EXT4_IOC_SHUTDOWN with the flag that also keeps the journal from being flushed.
const FORGET: &str = "import fcntl, os, struct, sys
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))";

/// A filesystem and where it is mounted.
#[derive(Debug)]
pub struct Disk {
    image: PathBuf,
    mounted: PathBuf,
    frozen: bool,
    /// Gives errors until it is mounted again.
    broken: bool,
}

impl Disk {
    /// Makes and mounts one of so many bytes.
    pub fn make(image: PathBuf, mounted: PathBuf, size: u64) -> anyhow::Result<Self> {
        let disk = Self {
            image,
            mounted,
            frozen: false,
            broken: false,
        };
        File::create(&disk.image)?.set_len(size)?;
        fs::create_dir_all(&disk.mounted)?;
        // Nothing is kept back for root, so that full is full.
        let options = ["-q", "-m", "0", "-E", "lazy_itable_init=0,nodiscard"];
        run_with(
            "mkfs.ext4",
            options
                .map(AsRef::as_ref)
                .iter()
                .chain([&disk.image.as_os_str()]),
        )?;
        disk.mount()?;
        Ok(disk)
    }

    fn mount(&self) -> anyhow::Result<()> {
        let arguments = ["-o".as_ref(), "loop".as_ref(), self.image.as_os_str()];
        run_with("mount", arguments.iter().chain([&self.mounted.as_os_str()]))
            .context("mount a filesystem in a file: are loop devices there?")
    }

    /// Where data are put.
    pub fn data_dir(&self) -> PathBuf {
        self.mounted.join("data")
    }

    /// No byte is left.
    pub fn fill(&self) -> anyhow::Result<()> {
        let mut filler = File::options()
            .create(true)
            .append(true)
            .open(self.mounted.join(FILLER))?;
        let free = statvfs(&self.mounted)?;
        let bytes = free.blocks_available() * free.fragment_size();
        // Whatever fallocate leaves, and what others free meanwhile, is taken by writes.
        drop(run_with(
            "fallocate",
            [
                "--length".as_ref(),
                bytes.to_string().as_ref(),
                self.mounted.join(FILLER).as_os_str(),
            ],
        ));
        for size in [64 * 1024, 4096, 512] {
            write_until_full(&mut filler, size)?;
        }
        Ok(())
    }

    /// Room again.
    pub fn free(&self) -> anyhow::Result<()> {
        match fs::remove_file(self.mounted.join(FILLER)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    pub fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// Whoever writes hangs.
    pub fn freeze(&mut self) -> anyhow::Result<()> {
        if self.frozen {
            return Ok(());
        }
        run_with("fsfreeze", ["--freeze".as_ref(), self.mounted.as_os_str()])?;
        self.frozen = true;
        Ok(())
    }

    /// Whoever writes goes on.
    pub fn thaw(&mut self) -> anyhow::Result<()> {
        if std::mem::take(&mut self.frozen) {
            run_with(
                "fsfreeze",
                ["--unfreeze".as_ref(), self.mounted.as_os_str()],
            )?;
        }
        Ok(())
    }

    /// Whether everything fails until [`Disk::mount_again`].
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// The filesystem finds itself damaged: whatever is written fails, for it is read-only from now on.
    pub fn turn_read_only(&mut self) -> anyhow::Result<()> {
        self.broken = true;
        let arguments = ["-o".as_ref(), "remount,abort".as_ref()];
        run_with("mount", arguments.iter().chain([&self.mounted.as_os_str()]))
    }

    /// What was not synced is gone, and everything fails until [`Disk::mount_again`].
    pub fn forget(&mut self) -> anyhow::Result<()> {
        self.broken = true;
        let arguments = ["-c".as_ref(), FORGET.as_ref(), self.mounted.as_os_str()];
        run_with("python3", arguments)
    }

    /// Takes it away, as soon as nobody uses it any more.
    pub fn unmount(&mut self) -> anyhow::Result<()> {
        self.thaw()?;
        run_with("umount", ["--lazy".as_ref(), self.mounted.as_os_str()])
    }

    /// Comes back with what was synced. Nobody may use it meanwhile.
    pub fn mount_again(&mut self) -> anyhow::Result<()> {
        run_with("umount", [&self.mounted])?;
        self.mount()?;
        self.broken = false;
        Ok(())
    }
}

fn write_until_full(file: &mut File, size: usize) -> io::Result<()> {
    let block = vec![0x5a; size];
    loop {
        match file.write(&block) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}
