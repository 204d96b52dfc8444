//! A step's own socket before the agent that the user gave: it belongs to whom the mount says, which the
//! agent's need not, and a step that is not root's can speak to it.

use rustix::net::Shutdown;
use std::fs::{File, Permissions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Connections at once; what comes beyond them is closed.
const CONNECTIONS_MAX: usize = 64;
/// How long to wait where a connection could not be taken.
const RETRY_WAIT: Duration = Duration::from_millis(20);

/// A socket that passes on what it gets, until it is dropped.
#[derive(Debug)]
pub(crate) struct Agent {
    listener: Arc<UnixListener>,
    ends: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl Agent {
    /// A socket at `path` with this owner and mode, for the agent behind `socket`.
    pub(crate) fn listen(
        path: &Path,
        socket: &Path,
        (uid, gid): (u32, u32),
        mode: u32,
    ) -> io::Result<Self> {
        let (directory, near) = near(path)?;
        let listener = Arc::new(UnixListener::bind(&near)?);
        drop(directory);
        chown(path, Some(uid), Some(gid))?;
        std::fs::set_permissions(path, Permissions::from_mode(mode))?;
        let ends = Arc::new(AtomicBool::new(false));
        let accepting = {
            let (listener, ends, socket) = (listener.clone(), ends.clone(), socket.to_owned());
            thread::Builder::new()
                .name("agent".into())
                .spawn(move || accept(&listener, &ends, &socket))?
        };
        Ok(Self { listener, ends, accepting: Some(accepting) })
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Release);
        // Whoever waits in `accept` is told so.
        if rustix::net::shutdown(&*self.listener, Shutdown::Both).is_ok()
            && let Some(accepting) = self.accepting.take()
        {
            drop(accepting.join());
        }
    }
}

/// A path that is short enough for the address of a socket, as long as the directory is open.
fn near(path: &Path) -> io::Result<(File, PathBuf)> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let directory = File::open(parent)?;
    let near = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
    Ok((directory, near))
}

fn accept(listener: &UnixListener, ends: &AtomicBool, socket: &Path) {
    let open = Arc::new(AtomicUsize::new(0));
    while !ends.load(Ordering::Acquire) {
        let Ok((step, _)) = listener.accept() else {
            if !ends.load(Ordering::Acquire) {
                thread::sleep(RETRY_WAIT);
            }
            continue;
        };
        if open.load(Ordering::Acquire) >= CONNECTIONS_MAX {
            continue;
        }
        let (open, socket) = (open.clone(), socket.to_owned());
        open.fetch_add(1, Ordering::AcqRel);
        let counted = open.clone();
        let passing = thread::Builder::new().name("agent".into()).spawn(move || {
            // Both ends see a connection that fails as one that is closed.
            drop(pass_on(&step, &socket));
            open.fetch_sub(1, Ordering::AcqRel);
        });
        if passing.is_err() {
            counted.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

fn pass_on(step: &UnixStream, socket: &Path) -> io::Result<()> {
    use std::net::Shutdown::{Both, Write};
    let (directory, near) = near(socket)?;
    let agent = UnixStream::connect(near)?;
    drop(directory);
    thread::scope(|scope| {
        scope.spawn(|| {
            let copied = io::copy(&mut &*step, &mut &agent);
            agent.shutdown(if copied.is_ok() { Write } else { Both })
        });
        let copied = io::copy(&mut &agent, &mut &*step);
        step.shutdown(if copied.is_ok() { Write } else { Both })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapstrake_fixtures::TempDir;
    use std::io::{Read as _, Write as _};
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn what_is_said_reaches_the_agent_and_back() {
        let work = TempDir::new("agent");
        // Longer than the address of a socket can be.
        let deep = work.join("d".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let (_open, at) = near(&deep.join("real")).unwrap();
        let real = UnixListener::bind(at).unwrap();
        let path = deep.join("own");
        let own = work.path().metadata().unwrap();
        let agent =
            Agent::listen(&path, &deep.join("real"), (own.uid(), own.gid()), 0o640).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o640);
        let (_dir, short) = near(&path).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..3 {
                    let (mut peer, _) = real.accept().unwrap();
                    let mut said = String::new();
                    peer.read_to_string(&mut said).unwrap();
                    peer.write_all(said.to_uppercase().as_bytes()).unwrap();
                }
            });
            for _ in 0..3 {
                let mut step = UnixStream::connect(&short).unwrap();
                step.write_all(b"sign").unwrap();
                step.shutdown(std::net::Shutdown::Write).unwrap();
                let mut answer = String::new();
                step.read_to_string(&mut answer).unwrap();
                assert_eq!(answer, "SIGN");
            }
        });
        let idle = UnixStream::connect(&short).unwrap();
        drop(agent);
        assert!(UnixStream::connect(&short).is_err());
        drop(idle);
    }

    #[test]
    fn an_agent_that_is_gone_closes() {
        let work = TempDir::new("agent-gone");
        let own = work.path().metadata().unwrap();
        let path = work.join("own");
        let _agent =
            Agent::listen(&path, &work.join("none"), (own.uid(), own.gid()), 0o600).unwrap();
        let mut step = UnixStream::connect(&path).unwrap();
        assert_eq!(step.read(&mut [0]).unwrap(), 0);
    }
}
