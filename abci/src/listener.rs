//! A listening socket that can be stopped, and what a unix socket leaves on the disk.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    net::TcpListener,
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use rustix::{
    event::{poll, PollFd, PollFlags},
    net::{self as sys, AddressFamily, SocketAddrUnix, SocketFlags, SocketType},
};

use crate::{stream::Stream, Address};

/// Connections the kernel holds while the accepting thread is busy.
const BACKLOG: i32 = 64;

/// Owner only: whoever may write to the socket drives the application.
const SOCKET_MODE: u32 = 0o600;

/// Why a server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody answers on the unix socket, or holds its lock file.
    #[error("{path} is in use by another process: stop it, or choose another socket path")]
    InUse {
        /// The socket's path.
        path: PathBuf,
    },
    /// Something that is no socket is in the way; it is left alone.
    #[error("{path} exists and is not a socket: remove it, or choose another socket path")]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The system failed.
    #[error("cannot listen on {address}: {source}{}", hint(.source))]
    Io {
        /// Where the server was to listen.
        address: Address,
        /// What the system said.
        source: io::Error,
    },
}

fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::InvalidFilename | io::ErrorKind::InvalidInput => " (a unix socket's path has at most 107 bytes)",
        io::ErrorKind::NotFound => " (the directory of the socket must exist)",
        io::ErrorKind::AddrInUse => " (another process listens there)",
        _ => "",
    }
}

/// A listening socket and the end of a pair that wakes it.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: Socket,
    wake: UnixStream,
    /// Goes after the socket is closed.
    _file: Option<SocketFile>,
}

/// Wakes a [`Listener`] for good.
#[derive(Debug)]
pub(crate) struct Waker(UnixStream);

impl Waker {
    /// From now on [`Listener::accept`] gives `None`.
    pub(crate) fn wake(&self) {
        let _ = self.0.shutdown(std::net::Shutdown::Both);
    }
}

#[derive(Debug)]
enum Socket {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Listener {
    /// Listens, and says where: a TCP port 0 becomes the port that the system chose.
    pub(crate) fn bind(address: &Address) -> Result<(Self, Address, Waker), BindError> {
        let io_error = |source| BindError::Io {
            address: address.clone(),
            source,
        };
        let (socket, local, file) = match address {
            Address::Unix(path) => {
                let file = SocketFile::claim(path)?;
                let (listener, file) = bind_unix(path, file).map_err(io_error)?;
                listener.set_nonblocking(true).map_err(io_error)?;
                (Socket::Unix(listener), address.clone(), Some(file))
            }
            Address::Tcp(addr) => {
                let listener = TcpListener::bind(addr).map_err(io_error)?;
                listener.set_nonblocking(true).map_err(io_error)?;
                let local = Address::Tcp(listener.local_addr().map_err(io_error)?);
                (Socket::Tcp(listener), local, None)
            }
        };
        let (wake, waker) = UnixStream::pair().map_err(io_error)?;
        let listener = Self {
            socket,
            wake,
            _file: file,
        };
        Ok((listener, local, Waker(waker)))
    }

    /// The next connection; `None` once woken.
    ///
    /// # Errors
    /// What the system says, for example that there are no file descriptors left; the listener stays usable.
    pub(crate) fn accept(&self) -> io::Result<Option<Stream>> {
        loop {
            let mut fds = match &self.socket {
                Socket::Unix(unix) => [PollFd::new(unix, PollFlags::IN), PollFd::new(&self.wake, PollFlags::IN)],
                Socket::Tcp(tcp) => [PollFd::new(tcp, PollFlags::IN), PollFd::new(&self.wake, PollFlags::IN)],
            };
            match poll(&mut fds, None) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(e) => return Err(e.into()),
            }
            if !fds[1].revents().is_empty() {
                return Ok(None);
            }
            let accepted = match &self.socket {
                Socket::Unix(unix) => unix.accept().and_then(|(stream, _)| {
                    stream.set_nonblocking(false)?;
                    Ok(Stream::Unix(stream))
                }),
                Socket::Tcp(tcp) => tcp.accept().and_then(|(stream, _)| {
                    stream.set_nonblocking(false)?;
                    Ok(Stream::Tcp(stream))
                }),
            };
            match accepted {
                // The peer was gone before it was accepted.
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionAborted) => {}
                Err(e) => return Err(e),
                Ok(stream) => {
                    stream.tune()?;
                    return Ok(Some(stream));
                }
            }
        }
    }
}

/// The file of a unix socket. Its lock says that a server is alive; the kernel releases it however that server ends. Dropping this
/// removes the socket if it is still ours.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Device and inode of the socket we made.
    made: Option<(u64, u64)>,
    _lock: File,
}

impl SocketFile {
    /// Makes the path free: removes a socket that nobody listens on, refuses anything else.
    fn claim(path: &Path) -> Result<Self, BindError> {
        let io_error = |source| BindError::Io {
            address: Address::Unix(path.to_owned()),
            source,
        };
        let in_use = || BindError::InUse { path: path.to_owned() };
        // Two servers that start at once would each take the other's fresh socket for a stale one.
        let lock_path = path.with_added_extension("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(lock_path)
            .map_err(io_error)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(in_use()),
            Err(TryLockError::Error(e)) => return Err(io_error(e)),
        }
        match fs::symlink_metadata(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(io_error(e)),
            Ok(meta) if !meta.file_type().is_socket() => return Err(BindError::NotASocket { path: path.to_owned() }),
            Ok(_) => match UnixStream::connect(path) {
                Ok(_) => return Err(in_use()),
                Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
                    tracing::info!(path = %path.display(), "removing a stale ABCI socket");
                    fs::remove_file(path).map_err(io_error)?;
                }
                Err(e) => return Err(io_error(e)),
            },
        }
        Ok(Self {
            path: path.to_owned(),
            made: None,
            _lock: lock,
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let here = fs::symlink_metadata(&self.path).ok().map(|m| (m.dev(), m.ino()));
        if self.made.is_some() && here == self.made {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn bind_unix(path: &Path, mut file: SocketFile) -> io::Result<(UnixListener, SocketFile)> {
    let name = SocketAddrUnix::new(path)?;
    let fd = sys::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // Linux gives the file the mode of the socket, so it is never open to others, not even between two calls.
    let _ = rustix::fs::fchmod(&fd, rustix::fs::Mode::from_raw_mode(SOCKET_MODE));
    sys::bind(&fd, &name)?;
    let meta = fs::symlink_metadata(path)?;
    file.made = Some((meta.dev(), meta.ino()));
    // Elsewhere the mode is set after the fact, before anyone can connect.
    fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))?;
    sys::listen(&fd, BACKLOG)?;
    Ok((UnixListener::from(fd), file))
}
