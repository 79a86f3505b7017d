//! fusermount3(1): mounts and unmounts for users who are not root.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::mountinfo::KIND;
use super::options::MountOptions;
use crate::error::{Error, Result};

/// Tried in turn; the directories are for environments without PATH.
const PROGRAMS: [&str; 4] =
    ["fusermount3", "/usr/bin/fusermount3", "/bin/fusermount3", "fusermount"];
/// Names the socket on which the program passes the descriptor back; libfuse, util/fusermount.c.
const SOCKET: &str = "_FUSE_COMMFD";

/// Lets fusermount3 open the device and mount it.
///
/// # Errors
/// [`Error::Config`] with what the program said, or that there is none.
pub(super) fn mount(path: &Path, options: &MountOptions) -> Result<OwnedFd> {
    let (ours, theirs) = UnixStream::pair().map_err(|error| Error::io("a socket pair", error))?;
    let words = words(options);
    let said = run(|command| {
        command.arg("-o").arg(&words).arg("--").arg(path);
        command.env(SOCKET, theirs.as_raw_fd().to_string());
        inherit(command, theirs.as_raw_fd());
    });
    // What the program sent waits in our end; when it sent nothing, that ends here.
    drop(theirs);
    match said {
        Ok(said) => receive(&ours).map_err(|_| refused(path, &said.stderr)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::Config(
            "mounting needs root, or the program fusermount3 (package fuse3) with its \
             set-user-ID bit"
                .into(),
        )),
        Err(error) => Err(Error::io("running fusermount3", error)),
    }
}

/// Unmounts a mount of this user; `lazily` also while it is in use.
///
/// # Errors
/// EBUSY when the program would not.
pub(super) fn unmount(path: &Path, lazily: bool) -> io::Result<()> {
    let said = run(|command| {
        command.args(["-u", "-q"]).args(lazily.then_some("-z")).arg("--").arg(path);
    })?;
    match said.status.success() {
        true => Ok(()),
        false => Err(io::Error::from_raw_os_error(libc::EBUSY)),
    }
}

/// Runs the first program there is to its end.
fn run(arguments: impl Fn(&mut Command)) -> io::Result<Output> {
    for program in PROGRAMS {
        let mut command = Command::new(program);
        arguments(&mut command);
        match command.stdin(Stdio::null()).output() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => return result,
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

fn refused(path: &Path, said: &[u8]) -> Error {
    let said = String::from_utf8_lossy(said);
    let advice = if said.contains("user_allow_other") {
        "; leave out allow_other, or set user_allow_other in /etc/fuse.conf"
    } else if said.contains("/dev/fuse: Permission denied") {
        "; let everybody open it, as most systems do: chmod 666 /dev/fuse"
    } else {
        ""
    };
    Error::Config(format!("mounting on {} failed: {}{advice}", path.display(), said.trim()))
}

/// mount(8)'s words for what [`MountOptions`] holds as bits.
fn words(options: &MountOptions) -> String {
    let word = |bit, set, clear| if options.flags & bit == 0 { clear } else { set };
    let mut words = vec![
        word(libc::MS_RDONLY, "ro", "rw"),
        word(libc::MS_NOSUID, "nosuid", "suid"),
        word(libc::MS_NODEV, "nodev", "dev"),
        word(libc::MS_NOEXEC, "noexec", "exec"),
        word(libc::MS_SYNCHRONOUS, "sync", "async"),
        word(libc::MS_NOATIME, "noatime", "atime"),
        "default_permissions",
    ];
    if options.allow_other {
        words.push("allow_other");
    }
    let subtype = KIND.trim_start_matches("fuse.");
    let source = options.source.replace('\\', r"\\").replace(',', r"\,");
    format!("{},subtype={subtype},fsname={source}", words.join(","))
}

/// Keeps the descriptor open across exec: std opens everything close-on-exec.
fn inherit(command: &mut Command, descriptor: i32) {
    // SAFETY: the closure runs between fork and exec and calls fcntl(2) only, which is safe there.
    unsafe {
        command.pre_exec(move || match libc::fcntl(descriptor, libc::F_SETFD, 0) {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        });
    }
}

/// The descriptor that came as SCM_RIGHTS; unix(7), cmsg(3).
fn receive(socket: &UnixStream) -> io::Result<OwnedFd> {
    let mut byte = [0u8; 1];
    let mut control = [0u64; 8];
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: byte.len() };
    // SAFETY: an msghdr of zeros is a valid one without buffers.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = mem::size_of_val(&control) as _;
    // SAFETY: the message points at buffers that live here, with their true lengths; recvmsg(2).
    let got =
        unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
    if got < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel filled the message in; CMSG_FIRSTHDR checks its length.
    let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    if header.is_null() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    // SAFETY: a header that is there is whole, and SCM_RIGHTS is followed by at least one descriptor,
    // which is ours from now on.
    unsafe {
        if (*header).cmsg_level != libc::SOL_SOCKET || (*header).cmsg_type != libc::SCM_RIGHTS {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let descriptor = libc::CMSG_DATA(header).cast::<i32>().read_unaligned();
        Ok(OwnedFd::from_raw_fd(descriptor))
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::io::Write;

    use super::*;

    #[test]
    fn bits_become_words() {
        let options = MountOptions::new(OsStr::new("/mnt"));
        let plain = words(&options.clone().with("noallow_other,fsname=a\\b").unwrap());
        let expected = "rw,nosuid,nodev,exec,async,atime,default_permissions";
        assert_eq!(plain, format!(r"{expected},subtype=bucketfs,fsname=a\\b"));
        let other = words(&options.with("ro,suid,dev,noexec,allow_other").unwrap());
        assert!(other.starts_with("ro,suid,dev,noexec,"), "{other}");
        assert!(other.contains(",allow_other,"), "{other}");
    }

    /// A program that gives up sends nothing: waiting for it hung the start for ever.
    #[test]
    fn a_socket_without_a_descriptor_is_an_error() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        assert!(receive(&ours).is_err());
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"x").unwrap();
        assert!(receive(&ours).is_err());
    }

    #[test]
    fn what_it_says_is_passed_on_with_advice() {
        let said = b"fusermount3: option allow_other only allowed if 'user_allow_other' is set\n";
        let text = refused(Path::new("/mnt"), said).to_string();
        assert!(text.starts_with("mounting on /mnt failed: fusermount3: option"), "{text}");
        assert!(text.ends_with("/etc/fuse.conf"), "{text}");
        let said = b"fusermount3: failed to open /dev/fuse: Permission denied\n";
        assert!(refused(Path::new("/mnt"), said).to_string().ends_with("chmod 666 /dev/fuse"));
    }
}
