//! TCP sockets in the states that the standard library hides: bound without listening, listening with any backlog.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Result, ensure};

/// A TCP socket bound to any port of `ip`, not listening.
pub(crate) fn bound(ip: IpAddr) -> Result<OwnedFd> {
    let family = if ip.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: socket(2) returns a descriptor that nobody else owns.
    let socket = unsafe {
        let fd = libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
        ensure!(fd >= 0, "socket: {}", std::io::Error::last_os_error());
        OwnedFd::from_raw_fd(fd)
    };
    // SAFETY: all-zero is a valid sockaddr of either family; the length is that of the family's structure.
    let code = unsafe {
        let mut storage: libc::sockaddr_storage = std::mem::zeroed();
        let length = match ip {
            IpAddr::V4(ip) => {
                let address = &mut *(&raw mut storage).cast::<libc::sockaddr_in>();
                address.sin_addr.s_addr = u32::from_ne_bytes(ip.octets());
                size_of::<libc::sockaddr_in>()
            }
            IpAddr::V6(ip) => {
                let address = &mut *(&raw mut storage).cast::<libc::sockaddr_in6>();
                address.sin6_addr.s6_addr = ip.octets();
                size_of::<libc::sockaddr_in6>()
            }
        };
        storage.ss_family = libc::sa_family_t::try_from(family)?;
        libc::bind(socket.as_raw_fd(), (&raw const storage).cast(), libc::socklen_t::try_from(length)?)
    };
    ensure!(code == 0, "binding {}: {}", SocketAddr::new(ip, 0), std::io::Error::last_os_error());
    Ok(socket)
}

/// Starts to listen with this backlog.
pub(crate) fn listen(listener: &TcpListener, backlog: libc::c_int) -> Result<()> {
    // SAFETY: listen(2) on an open socket touches no memory of ours.
    let code = unsafe { libc::listen(listener.as_raw_fd(), backlog) };
    ensure!(code == 0, "listen: {}", std::io::Error::last_os_error());
    Ok(())
}
