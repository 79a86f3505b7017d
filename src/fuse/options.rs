//! What can be asked for when mounting: the target and the words of `-o`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use crate::error::{Error, Result};

/// Event threads: fewer than four halve sequential writes, whatever the machine.
const THREADS_MIN: usize = 4;
const THREADS_MAX: usize = 256;
const TTL_DEFAULT: Duration = Duration::from_secs(1);
const TTL_MAX_SECONDS: f64 = 3600.0;
/// Read-ahead of the mount: the kernel's 128 KiB triple the time of a cold sequential read.
const READ_AHEAD_KB_DEFAULT: u32 = 4096;

/// Words of mount(8) that are bits of mount(2); whether the word sets or clears the bit.
const FLAGS: [(&str, libc::c_ulong, bool); 16] = [
    ("ro", libc::MS_RDONLY, true),
    ("rw", libc::MS_RDONLY, false),
    ("nosuid", libc::MS_NOSUID, true),
    ("suid", libc::MS_NOSUID, false),
    ("nodev", libc::MS_NODEV, true),
    ("dev", libc::MS_NODEV, false),
    ("noexec", libc::MS_NOEXEC, true),
    ("exec", libc::MS_NOEXEC, false),
    ("sync", libc::MS_SYNCHRONOUS, true),
    ("async", libc::MS_SYNCHRONOUS, false),
    ("noatime", libc::MS_NOATIME, true),
    ("atime", libc::MS_NOATIME, false),
    ("nodiratime", libc::MS_NODIRATIME, true),
    ("diratime", libc::MS_NODIRATIME, false),
    ("dirsync", libc::MS_DIRSYNC, true),
    ("relatime", libc::MS_RELATIME, true),
];

/// Words that say nothing to a file system or are always so here; fstab(5), mount(8).
const WITHOUT_EFFECT: [&str; 15] = [
    "defaults",
    "default_permissions",
    "auto",
    "noauto",
    "user",
    "nouser",
    "users",
    "owner",
    "group",
    "nofail",
    "_netdev",
    "norelatime",
    "comment",
    "helper",
    "uhelper",
];

/// One mount as asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct MountOptions {
    pub mount_point: PathBuf,
    /// `BUCKET[/PATH]` shown as the whole file system; `None`: all buckets as directories.
    pub subtree: Option<Vec<u8>>,
    /// First column of df(1) and findmnt(8).
    pub source: String,
    /// How long the kernel may use names and attributes without asking.
    pub ttl: Duration,
    /// Threads that take requests.
    pub threads: usize,
    /// Bytes read ahead of a sequential reader, in KiB.
    pub read_ahead_kb: u32,
    /// The mount point may have content; it is hidden while mounted.
    pub non_empty: bool,
    /// POSIX ACLs are honoured by the kernel.
    pub acl: bool,
    /// Locks hold for all mounts and nodes, where there are several; else the kernel keeps them, for
    /// this mount alone.
    pub locks: bool,
    /// No extended attributes. Otherwise the kernel asks for one before each write.
    pub no_xattr: bool,
    /// All files bypass the page cache.
    pub direct_io: bool,
    /// Users other than the one who mounts may enter. Root's default is yes, others' is no.
    pub allow_other: bool,
    /// mount(8)'s `-s`: words that are not known are passed over.
    sloppy: bool,
    /// MS_ bits of mount(2).
    pub(super) flags: libc::c_ulong,
}

impl MountOptions {
    /// `DIR` or `DIR=BUCKET[/PATH]`; a directory with `=` in its name has to come by [`Self::at`].
    pub fn new(target: &OsStr) -> Self {
        let bytes = target.as_bytes();
        match bytes.iter().position(|&byte| byte == b'=') {
            Some(at) => {
                let subtree = Some(bytes[at + 1..].to_vec());
                Self { subtree, ..Self::at(OsStr::from_bytes(&bytes[..at])) }
            }
            None => Self::at(target),
        }
    }

    /// All buckets at a directory, whatever its name is; `-o bucket=` shows less.
    pub fn at(mount_point: &OsStr) -> Self {
        let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
        Self {
            mount_point: PathBuf::from(mount_point),
            subtree: None,
            source: "bucketfs".into(),
            ttl: TTL_DEFAULT,
            threads: (2 * cores).clamp(THREADS_MIN, THREADS_MAX),
            read_ahead_kb: READ_AHEAD_KB_DEFAULT,
            non_empty: false,
            acl: false,
            locks: true,
            no_xattr: false,
            direct_io: false,
            allow_other: is_root(),
            sloppy: false,
            flags: libc::MS_NOSUID | libc::MS_NODEV,
        }
    }

    /// Adds the words of one `-o`, separated by commas; later words win.
    ///
    /// # Errors
    /// [`Error::Config`] naming the word that is unknown or has a bad value.
    pub fn with(mut self, words: &str) -> Result<Self> {
        for word in words.split(',').filter(|word| !word.is_empty()) {
            self.take(word)?;
        }
        Ok(self)
    }

    fn take(&mut self, word: &str) -> Result<()> {
        if let Some((_, bit, set)) = FLAGS.iter().find(|(name, ..)| *name == word) {
            self.flags = if *set { self.flags | bit } else { self.flags & !bit };
            return Ok(());
        }
        let (name, value) =
            word.split_once('=').map_or((word, None), |(name, it)| (name, Some(it)));
        if WITHOUT_EFFECT.contains(&name) || name.starts_with("x-") {
            return Ok(());
        }
        let known = match value {
            None => self.take_switch(name),
            Some(value) => self.take_value(name, value)?,
        };
        if known || self.sloppy { Ok(()) } else { Err(unknown(name)) }
    }

    /// False when the word is not known.
    fn take_switch(&mut self, word: &str) -> bool {
        match word {
            "nonempty" => self.non_empty = true,
            "acl" => self.acl = true,
            "noacl" => self.acl = false,
            "local_locks" => self.locks = false,
            "noxattr" => self.no_xattr = true,
            "direct_io" => self.direct_io = true,
            "allow_other" => self.allow_other = true,
            "noallow_other" => self.allow_other = false,
            "sloppy" => self.sloppy = true,
            _ => return false,
        }
        true
    }

    /// False when the name is not known.
    fn take_value(&mut self, name: &str, value: &str) -> Result<bool> {
        match name {
            "bucket" => self.subtree = Some(value.as_bytes().to_vec()),
            "fsname" => self.source = value.to_owned(),
            "ttl" => self.ttl = seconds(name, value)?,
            "threads" => self.threads = number(name, value, 1, THREADS_MAX)?,
            "read_ahead_kb" => self.read_ahead_kb = number(name, value, 0, 1 << 20)? as u32,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn unknown(word: &str) -> Error {
    Error::Config(format!(
        "mount option `{word}` is not known; known are bucket=, ttl=, threads=, read_ahead_kb=, fsname=, \
         nonempty, acl, noxattr, direct_io, local_locks, allow_other, noallow_other and mount(8)'s own: ro, suid, dev, noexec, noatime, sync"
    ))
}

fn seconds(name: &str, value: &str) -> Result<Duration> {
    let seconds = value.parse::<f64>().ok().filter(|it| (0.0..=TTL_MAX_SECONDS).contains(it));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| {
        Error::Config(format!(
            "mount option `{name}={value}`: a number of seconds from 0 to {TTL_MAX_SECONDS} is wanted"
        ))
    })
}

fn number(name: &str, value: &str, min: usize, max: usize) -> Result<usize> {
    let number = value.parse::<usize>().ok().filter(|it| (min..=max).contains(it));
    number.ok_or_else(|| {
        Error::Config(format!(
            "mount option `{name}={value}`: a number from {min} to {max} is wanted"
        ))
    })
}

pub(super) fn is_root() -> bool {
    // SAFETY: takes nothing and cannot fail; geteuid(2).
    unsafe { libc::geteuid() == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(words: &str) -> Result<MountOptions> {
        MountOptions::new(OsStr::new("/mnt")).with(words)
    }

    #[test]
    fn a_target_names_a_directory_and_perhaps_a_bucket() {
        let whole = MountOptions::new(OsStr::new("/mnt/all"));
        assert_eq!((whole.mount_point.as_path(), whole.subtree), ("/mnt/all".as_ref(), None));
        let part = MountOptions::new(OsStr::new("/mnt/a=photos/2024=x"));
        assert_eq!(part.mount_point, PathBuf::from("/mnt/a"));
        assert_eq!(part.subtree.unwrap(), b"photos/2024=x");
    }

    #[test]
    fn set_user_id_and_devices_are_off_unless_asked_for() {
        let safe = libc::MS_NOSUID | libc::MS_NODEV;
        assert_eq!(options("").unwrap().flags, safe);
        assert_eq!(options("defaults,_netdev,x-systemd.automount").unwrap().flags, safe);
        assert_eq!(options("suid,dev").unwrap().flags, 0);
        assert_eq!(options("suid,ro,nosuid").unwrap().flags, safe | libc::MS_RDONLY);
    }

    #[test]
    fn words_set_what_they_say() {
        let text =
            "bucket=b/p,ttl=0.5,threads=9,read_ahead_kb=128,fsname=x,nonempty,acl,direct_io,,";
        let options = options(text).unwrap();
        assert_eq!(options.subtree.unwrap(), b"b/p");
        assert_eq!(options.ttl, Duration::from_millis(500));
        assert_eq!((options.threads, options.read_ahead_kb), (9, 128));
        assert_eq!(options.source, "x");
        assert!(options.non_empty && options.acl && options.direct_io);
    }

    #[test]
    fn sloppy_passes_over_words_but_not_over_values() {
        assert!(options("sloppy,intr,rsize=4096,user=joe").is_ok());
        assert!(options("intr").is_err());
        assert!(options("sloppy,ttl=soon").is_err());
    }

    #[test]
    fn the_last_word_wins() {
        assert!(!options("acl,noacl").unwrap().acl);
        assert!(options("noallow_other,allow_other").unwrap().allow_other);
        assert_eq!(options("ttl=3,ttl=0").unwrap().ttl, Duration::ZERO);
    }

    /// A word that is misspelt must not be swallowed: the mount would silently not be what was meant.
    #[test]
    fn unknown_words_and_bad_values_are_refused_by_name() {
        for bad in ["nonemty", "tll=1", "ttl=", "ttl=-1", "ttl=NaN", "threads=0", "threads=x", "=1"]
        {
            let Err(Error::Config(text)) = options(bad) else { panic!("{bad} was taken") };
            assert!(text.contains(bad.split('=').next().unwrap()), "{text}");
        }
    }

    #[test]
    fn there_are_never_fewer_than_four_threads() {
        assert!(options("").unwrap().threads >= THREADS_MIN);
    }
}
