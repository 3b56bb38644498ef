//! TCP sockets in the states that the standard library hides: bound without listening, listening with any backlog, connected
//! from a port that was known before.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use rustix::net::sockopt::{Timeout, set_socket_reuseport, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::wait;

fn new(ip: IpAddr) -> Result<OwnedFd> {
    let family = if ip.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None).context("socket")
}

/// A TCP socket bound to any port of `ip`, not listening.
pub(crate) fn bound(ip: IpAddr) -> Result<OwnedFd> {
    let socket = new(ip)?;
    let address = SocketAddr::new(ip, 0);
    rustix::net::bind(&socket, &address).with_context(|| format!("binding {address}"))?;
    Ok(socket)
}

/// So many listeners that share a place on any port of `ip`.
pub(crate) fn sharing(ip: IpAddr, backlog: i32, count: usize) -> Result<Vec<TcpListener>> {
    let mut place = SocketAddr::new(ip, 0);
    let mut all = Vec::new();
    for _ in 0..count {
        let socket = new(ip)?;
        set_socket_reuseport(&socket, true)?;
        rustix::net::bind(&socket, &place).with_context(|| format!("binding {place}"))?;
        let listener = TcpListener::from(socket);
        listen(&listener, backlog)?;
        place = listener.local_addr()?;
        all.push(listener);
    }
    Ok(all)
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
