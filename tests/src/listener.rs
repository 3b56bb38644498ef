//! TCP sockets in the states that the standard library hides: bound without listening, listening with any backlog, connected
//! from a port that was known before.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::wait;

/// A TCP socket bound to any port of `ip`, not listening.
pub(crate) fn bound(ip: IpAddr) -> Result<OwnedFd> {
    let family = if ip.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None).context("socket")?;
    let address = SocketAddr::new(ip, 0);
    rustix::net::bind(&socket, &address).with_context(|| format!("binding {address}"))?;
    Ok(socket)
}

/// The port of a bound socket.
pub(crate) fn port(socket: &OwnedFd) -> Result<u16> {
    let name = SocketAddr::try_from(rustix::net::getsockname(socket)?)?;
    Ok(name.port())
}

/// Starts to listen with this backlog.
pub(crate) fn listen(listener: &TcpListener, backlog: i32) -> Result<()> {
    rustix::net::listen(listener, backlog).context("listen")
}

/// Connects a bound socket.
pub(crate) fn connect(socket: OwnedFd, address: SocketAddr) -> Result<TcpStream> {
    // It is the limit of connect(2), too.
    set_socket_timeout(&socket, Timeout::Send, Some(wait::SOON))?;
    rustix::net::connect(&socket, &address).with_context(|| format!("connecting to {address}"))?;
    Ok(socket.into())
}
