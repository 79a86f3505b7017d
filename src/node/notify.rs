//! Tells the service manager how the node is doing; sd_notify(3).

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The service manager, when one started this process and wants to be told.
#[derive(Debug, Default)]
pub struct Notify {
    socket: Option<UnixDatagram>,
}

impl Notify {
    /// The manager behind `$NOTIFY_SOCKET`; none when it is not set or cannot be reached.
    pub fn from_environment() -> Self {
        let Some(address) = std::env::var_os("NOTIFY_SOCKET") else { return Self::default() };
        match connect(&address) {
            Ok(socket) => Self { socket: Some(socket) },
            Err(error) => {
                log::warn!("the service manager at {address:?} cannot be told anything: {error}");
                Self::default()
            }
        }
    }

    pub fn ready(&self) {
        self.send("READY=1\nSTATUS=serving");
    }

    /// `what` is shown by `systemctl status`; the start or stop may take `more` time from now on.
    pub fn busy(&self, what: &str, more: Duration) {
        let what = what.replace('\n', " ");
        self.send(&format!("STATUS={what}\nEXTEND_TIMEOUT_USEC={}", more.as_micros()));
    }

    pub fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=writing everything to disk");
    }

    fn send(&self, message: &str) {
        if let Some(Err(error)) = self.socket.as_ref().map(|socket| socket.send(message.as_bytes()))
        {
            log::warn!("the service manager was not told: {error}");
        }
    }
}

/// A path, or a name of the abstract namespace after `@`.
fn connect(address: &OsStr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    match address.as_bytes().strip_prefix(b"@") {
        Some(name) => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        None => socket.connect(address)?,
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(manager: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let len = manager.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..len].to_vec()).unwrap()
    }

    #[test]
    fn a_manager_hears_the_states_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let notify = Notify { socket: Some(connect(path.as_os_str()).unwrap()) };
        notify.busy("rebuilding\n40 %", Duration::from_secs(2));
        notify.ready();
        notify.stopping();
        assert_eq!(heard(&manager), "STATUS=rebuilding 40 %\nEXTEND_TIMEOUT_USEC=2000000");
        assert!(heard(&manager).starts_with("READY=1\n"));
        assert!(heard(&manager).starts_with("STOPPING=1\n"));
    }

    #[test]
    fn an_abstract_name_is_found() {
        let name = format!("bucketfs-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        let socket = connect(OsStr::new(&format!("@{name}"))).unwrap();
        Notify { socket: Some(socket) }.ready();
        assert!(heard(&manager).starts_with("READY=1\n"));
    }

    #[test]
    fn without_a_manager_nothing_happens() {
        Notify::default().ready();
    }
}
