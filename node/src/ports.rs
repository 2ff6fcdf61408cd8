//! Listening sockets: bound before anything is written, so that a busy port leaves no trace.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};

use anyhow::{bail, Context, Result};
use rand_core::{OsRng, RngCore};

/// Binds `address` for `what` (its name in messages, for example `gRPC`). If the port is taken: with `auto` a free one is taken
/// instead and said in the log, else the error tells what to type, `setting` being the key to change.
pub fn bind(what: &str, setting: &str, address: SocketAddr, auto: bool) -> Result<TcpListener> {
    match TcpListener::bind(address) {
        Ok(listener) => Ok(listener),
        Err(e) if e.kind() == ErrorKind::AddrInUse && auto => {
            let free = SocketAddr::new(address.ip(), 0);
            let listener =
                TcpListener::bind(free).with_context(|| format!("no free port on {} for {what}", free.ip()))?;
            tracing::warn!(
                "port {} for {what} is in use; using {} instead",
                address.port(),
                listener.local_addr()?.port()
            );
            Ok(listener)
        }
        Err(e) if e.kind() == ErrorKind::AddrInUse => {
            let variable = format!("TENURED_{}", setting.replace(['.', '-'], "_").to_uppercase());
            bail!(
                "port {} for {what} is in use by another program. Stop that program, set {setting} to another address (for this \
                 run: {variable}={}:<port>), or let the node choose free ports with --auto-ports",
                address.port(),
                address.ip()
            )
        }
        Err(e) => Err(e).with_context(|| format!("cannot listen on {address} for {what} (setting {setting})")),
    }
}

/// Ports for [`free`]: below those that the system gives to whoever asks for any, so that nobody is given one meanwhile.
const QUIET_PORTS: std::ops::Range<u16> = 10_000..30_000;

/// An address that another program will bind a moment later: `address` if it is free, else, or if its port is 0, one of [`QUIET_PORTS`]
/// where [`bind`] would take any. Somebody else may still come first; then that program says so.
pub fn free(what: &str, setting: &str, address: SocketAddr, auto: bool) -> Result<SocketAddr> {
    if address.port() != 0 {
        // Bound only for a moment: the other program binds it next.
        let busy = TcpListener::bind(address).is_err_and(|e| e.kind() == ErrorKind::AddrInUse);
        if !(busy && auto) {
            return Ok(bind(what, setting, address, false)?.local_addr()?);
        }
    }
    let width = u32::from(QUIET_PORTS.end - QUIET_PORTS.start);
    for _ in 0..100 {
        let offset = u16::try_from(OsRng.next_u32() % width).unwrap_or(0);
        let quiet = SocketAddr::new(address.ip(), QUIET_PORTS.start + offset);
        if TcpListener::bind(quiet).is_ok() {
            if address.port() != 0 {
                tracing::warn!(
                    "port {} for {what} is in use; using {} instead",
                    address.port(),
                    quiet.port()
                );
            }
            return Ok(quiet);
        }
    }
    bail!(
        "no free port on {} for {what} among 100 of {QUIET_PORTS:?}",
        address.ip()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_port_is_named_or_replaced() -> Result<()> {
        let taken = TcpListener::bind("127.0.0.1:0")?;
        let address = taken.local_addr()?;
        let error = bind("gRPC", "grpc.address", address, false)
            .expect_err("busy")
            .to_string();
        for word in [
            address.port().to_string().as_str(),
            "TENURED_GRPC_ADDRESS",
            "--auto-ports",
            "gRPC",
        ] {
            assert!(error.contains(word), "{error}");
        }
        let other = bind("gRPC", "grpc.address", address, true)?.local_addr()?;
        assert_eq!(other.ip(), address.ip());
        assert_ne!(other.port(), address.port());
        Ok(())
    }

    #[test]
    fn a_port_that_is_free_stays_free_for_the_program_it_is_handed_to() -> Result<()> {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let quiet = free("p2p", "p2p.laddr", any, false)?;
        assert!(QUIET_PORTS.contains(&quiet.port()), "{quiet}");
        assert_eq!(free("p2p", "p2p.laddr", quiet, false)?, quiet);
        let taken = TcpListener::bind(quiet)?;
        assert!(free("p2p", "p2p.laddr", quiet, false).is_err());
        assert_ne!(free("p2p", "p2p.laddr", quiet, true)?, quiet);
        drop(taken);
        Ok(())
    }
}
