//! One connected socket of either transport.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Shutdown, TcpStream},
    os::unix::net::UnixStream,
    time::Duration,
};

use rustix::net::sockopt;

use crate::Address;

/// A TCP peer that vanished without a word is noticed after about `KEEPALIVE_IDLE + KEEPALIVE_PROBES × KEEPALIVE_INTERVAL`, 25 s.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_PROBES: u32 = 3;

/// From where a peer connects. Connections of one origin are taken to be one engine's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The unix socket: some process of our user.
    Local,
    Host(IpAddr),
}

/// A connected socket.
#[derive(Debug)]
pub(crate) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Stream {
    pub(crate) fn connect(address: &Address) -> io::Result<Self> {
        let stream = match address {
            Address::Unix(path) => Self::Unix(UnixStream::connect(path)?),
            Address::Tcp(addr) => Self::Tcp(TcpStream::connect(addr)?),
        };
        stream.tune()?;
        Ok(stream)
    }

    /// Without `TCP_NODELAY` a reply written in two pieces waits for the peer's delayed acknowledgement, 40 ms.
    pub(crate) fn tune(&self) -> io::Result<()> {
        if let Self::Tcp(tcp) = self {
            tcp.set_nodelay(true)?;
            sockopt::set_socket_keepalive(tcp, true)?;
            sockopt::set_tcp_keepidle(tcp, KEEPALIVE_IDLE)?;
            sockopt::set_tcp_keepintvl(tcp, KEEPALIVE_INTERVAL)?;
            sockopt::set_tcp_keepcnt(tcp, KEEPALIVE_PROBES)?;
        }
        Ok(())
    }

    pub(crate) fn origin(&self) -> io::Result<Origin> {
        Ok(match self {
            Self::Unix(_) => Origin::Local,
            Self::Tcp(tcp) => Origin::Host(tcp.peer_addr()?.ip()),
        })
    }

    pub(crate) fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Unix(unix) => unix.set_read_timeout(timeout),
            Self::Tcp(tcp) => tcp.set_read_timeout(timeout),
        }
    }

    /// Ends one or both directions; a thread blocked in them returns. A peer that is gone already is no error worth telling.
    pub(crate) fn shutdown(&self, how: Shutdown) {
        let _ = match self {
            Self::Unix(unix) => unix.shutdown(how),
            Self::Tcp(tcp) => tcp.shutdown(how),
        };
    }
}

impl Read for &Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(unix) => (&*unix).read(buf),
            Stream::Tcp(tcp) => (&*tcp).read(buf),
        }
    }
}

impl Write for &Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(unix) => (&*unix).write(buf),
            Stream::Tcp(tcp) => (&*tcp).write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buf)
    }
}
