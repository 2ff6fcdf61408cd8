//! Listening sockets: bound before anything is written, so that a busy port leaves no trace.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};

use anyhow::{bail, Context, Result};

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

/// An address that another program will bind a moment later: `address` if it is free, else as [`bind`]. Somebody else may come first;
/// then that program says so.
pub fn free(what: &str, setting: &str, address: SocketAddr, auto: bool) -> Result<SocketAddr> {
    Ok(bind(what, setting, address, auto)?.local_addr()?)
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
}
