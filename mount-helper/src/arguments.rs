//! The command lines of mount(8)'s and umount(8)'s helpers:
//! `SPEC DIR [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]` and
//! `DIR [-flnrv] [-N NAMESPACE] [-t TYPE.SUBTYPE]`; the switches may stand anywhere.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::Failure;

const MOUNT_USAGE: &str = "usage: mount.bucketfs DATA_DIR DIR [-sfnv] [-N NAMESPACE] [-o OPTIONS]";
const UNMOUNT_USAGE: &str = "usage: umount.bucketfs DIR [-flnrv] [-N NAMESPACE]";

/// What is to be mounted where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountArguments {
    pub data_dir: PathBuf,
    pub mount_point: PathBuf,
    /// Words for `bucketfs serve`, separated by commas.
    pub options: String,
    /// `-o config=`: its configuration file.
    pub config: Option<PathBuf>,
    /// `-o log=`: where the daemon's log goes.
    pub log: Option<PathBuf>,
    /// Check, but mount nothing.
    pub fake: bool,
    pub verbose: bool,
    pub namespace: Option<PathBuf>,
}

/// What is to be unmounted how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnmountArguments {
    pub mount_point: PathBuf,
    /// Cut users off.
    pub force: bool,
    /// Out of sight at once, gone when the last user leaves.
    pub lazy: bool,
    pub verbose: bool,
    pub namespace: Option<PathBuf>,
}

impl MountArguments {
    /// # Errors
    /// [`Failure::Usage`].
    pub fn parse(words: &[OsString]) -> Result<Self, Failure> {
        let parsed = Parsed::parse(words, "sfnvh", "Not", MOUNT_USAGE)?;
        let [data_dir, mount_point] = parsed.positions.as_slice() else {
            return Err(Failure::Usage(MOUNT_USAGE.into()));
        };
        let mut arguments = Self {
            data_dir: PathBuf::from(data_dir),
            mount_point: PathBuf::from(mount_point),
            fake: parsed.has('f'),
            verbose: parsed.has('v'),
            namespace: parsed.value('N').map(PathBuf::from),
            ..Self::default()
        };
        let sloppy = parsed.has('s').then_some("sloppy");
        let mut words: Vec<&str> = sloppy.into_iter().collect();
        for (_, text) in parsed.values.iter().filter(|(letter, _)| *letter == 'o') {
            let text = text.to_str().ok_or_else(|| usage("an option is no text"))?;
            words.extend(arguments.take_own(text));
        }
        arguments.options = words.join(",");
        Ok(arguments)
    }

    /// Keeps the words that are for this program; returns the others.
    fn take_own<'a>(&mut self, options: &'a str) -> Vec<&'a str> {
        let mut others = Vec::new();
        for word in options.split(',').filter(|word| !word.is_empty()) {
            match word.split_once('=') {
                Some(("config", file)) => self.config = Some(PathBuf::from(file)),
                Some(("log", file)) => self.log = Some(PathBuf::from(file)),
                _ => others.push(word),
            }
        }
        others
    }
}

impl UnmountArguments {
    /// # Errors
    /// [`Failure::Usage`].
    pub fn parse(words: &[OsString]) -> Result<Self, Failure> {
        let parsed = Parsed::parse(words, "flnrvh", "Not", UNMOUNT_USAGE)?;
        let [mount_point] = parsed.positions.as_slice() else {
            return Err(Failure::Usage(UNMOUNT_USAGE.into()));
        };
        Ok(Self {
            mount_point: PathBuf::from(mount_point),
            force: parsed.has('f'),
            lazy: parsed.has('l'),
            verbose: parsed.has('v'),
            namespace: parsed.value('N').map(PathBuf::from),
        })
    }
}

fn usage(what: &str) -> Failure {
    Failure::Usage(what.to_owned())
}

/// A command line taken apart; switches with a value take it from the same word or the next.
#[derive(Default)]
struct Parsed {
    positions: Vec<OsString>,
    switches: Vec<char>,
    values: Vec<(char, OsString)>,
}

impl Parsed {
    fn parse(
        words: &[OsString],
        switches: &str,
        with_value: &str,
        help: &str,
    ) -> Result<Self, Failure> {
        let mut parsed = Self::default();
        let mut words = words.iter();
        let mut only_positions = false;
        while let Some(word) = words.next() {
            match word.as_bytes() {
                b"--" if !only_positions => only_positions = true,
                [b'-', letters @ ..] if !only_positions && !letters.is_empty() => {
                    let next = parsed.take_letters(letters, switches, with_value, help)?;
                    if let Some(letter) = next {
                        let value = words.next().ok_or_else(|| {
                            Failure::Usage(format!("-{letter} wants a value; {help}"))
                        })?;
                        parsed.values.push((letter, value.clone()));
                    }
                }
                _ => parsed.positions.push(word.clone()),
            }
        }
        if parsed.has('h') {
            return Err(usage(help));
        }
        Ok(parsed)
    }

    /// Takes `fv`, or `oWORDS`. Returns the letter whose value is the next word.
    fn take_letters(
        &mut self,
        letters: &[u8],
        switches: &str,
        with_value: &str,
        help: &str,
    ) -> Result<Option<char>, Failure> {
        for (at, &byte) in letters.iter().enumerate() {
            let letter = char::from(byte);
            if with_value.contains(letter) {
                let value = &letters[at + 1..];
                if value.is_empty() {
                    return Ok(Some(letter));
                }
                self.values.push((letter, OsStr::from_bytes(value).to_owned()));
                return Ok(None);
            }
            if !switches.contains(letter) {
                return Err(Failure::Usage(format!("-{letter} is not known; {help}")));
            }
            self.switches.push(letter);
        }
        Ok(None)
    }

    fn has(&self, letter: char) -> bool {
        self.switches.contains(&letter)
    }

    fn value(&self, letter: char) -> Option<&OsString> {
        let values = self.values.iter().rev();
        values.map(|(name, value)| (name, value)).find(|(name, _)| **name == letter).map(|it| it.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').filter(|word| !word.is_empty()).map(OsString::from).collect()
    }

    fn mount(line: &str) -> Result<MountArguments, Failure> {
        MountArguments::parse(&words(line))
    }

    #[test]
    fn a_line_as_mount_makes_it_from_fstab() {
        let arguments = mount("/srv/data /mnt/all -o rw,_netdev,ttl=0").unwrap();
        assert_eq!(arguments.data_dir, PathBuf::from("/srv/data"));
        assert_eq!(arguments.mount_point, PathBuf::from("/mnt/all"));
        assert_eq!(arguments.options, "rw,_netdev,ttl=0");
        assert!(!arguments.fake && !arguments.verbose && arguments.namespace.is_none());
    }

    #[test]
    fn switches_stand_anywhere_and_together() {
        let arguments = mount("-sfnv /data -N /run/ns -t fuse.bucketfs /mnt -oro -o dev").unwrap();
        assert_eq!(arguments.options, "sloppy,ro,dev");
        assert!(arguments.fake && arguments.verbose);
        assert_eq!(arguments.namespace, Some(PathBuf::from("/run/ns")));
        assert_eq!(mount("-- -data -mnt").unwrap().data_dir, PathBuf::from("-data"));
    }

    #[test]
    fn words_for_this_program_stay_here() {
        let arguments = mount("/data /mnt -o config=/etc/b.toml,ro,log=/var/log/b").unwrap();
        assert_eq!(arguments.options, "ro");
        assert_eq!(arguments.config, Some(PathBuf::from("/etc/b.toml")));
        assert_eq!(arguments.log, Some(PathBuf::from("/var/log/b")));
    }

    #[test]
    fn nonsense_is_refused_with_the_usage() {
        for line in ["", "/data", "/data /mnt /more", "/data /mnt -x", "/data /mnt -o", "-h"] {
            let Err(Failure::Usage(text)) = mount(line) else { panic!("{line} was taken") };
            assert!(text.contains("usage: mount.bucketfs"), "{text}");
        }
    }

    #[test]
    fn a_line_as_umount_makes_it() {
        let arguments = UnmountArguments::parse(&words("/mnt -l -fv -N ns")).unwrap();
        assert_eq!(arguments.mount_point, PathBuf::from("/mnt"));
        assert!(arguments.lazy && arguments.force && arguments.verbose);
        assert_eq!(arguments.namespace, Some(PathBuf::from("ns")));
        assert!(UnmountArguments::parse(&words("/mnt /more")).is_err());
        assert!(UnmountArguments::parse(&words("/mnt -s")).is_err());
    }
}
