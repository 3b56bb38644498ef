//! A host behind the router that answers SYNs with an ICMP error, as firewalls that reject do.

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use crate::upstream::Shared;

/// In the network that the router swallows, see [`crate::namespace::Routed`].
const HOST: Ipv4Addr = Ipv4Addr::new(10, 77, 3, 9);
const PORT: u16 = 80;
const DESTINATION_UNREACHABLE: u8 = 3;

/// Answers every SYN to [`HOST`] that reaches the calling thread's namespace with `code`; gives the address.
pub(crate) fn refuse(code: u8, shared: &Arc<Shared>) -> Result<String> {
    let packets = socket(libc::AF_PACKET, libc::SOCK_DGRAM, i32::from((libc::ETH_P_IP as u16).to_be()))?;
    let answers = socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP)?;
    let shared = Arc::clone(shared);
    let answer_all = move || {
        let mut packet = [0_u8; 2048];
        while shared.readable(packets.as_raw_fd()).is_ok() {
            // SAFETY: the buffer is live and of the length given.
            let length = unsafe { libc::recv(packets.as_raw_fd(), packet.as_mut_ptr().cast(), packet.len(), 0) };
            let Ok(length) = usize::try_from(length) else { return };
            if let Some((to, error)) = error_about(&packet[..length], code) {
                // A lost answer only makes the client send its SYN again.
                let _ = send(&answers, to, &error);
            }
        }
    };
    std::thread::Builder::new().name("icmp".into()).spawn(answer_all).context("starting the ICMP host")?;
    Ok(format!("{HOST}:{PORT}"))
}

/// The ICMP error about an IPv4 packet and where it goes, if that packet is a SYN to the host.
fn error_about(packet: &[u8], code: u8) -> Option<(Ipv4Addr, Vec<u8>)> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
    let flags = packet.get(header + 13)?;
    let is_syn = packet.get(9)? == &6 && flags & 0x12 == 0x02;
    if !is_syn || address(16)? != HOST {
        return None;
    }
    let mut error = vec![DESTINATION_UNREACHABLE, code, 0, 0, 0, 0, 0, 0];
    error.extend_from_slice(packet.get(..header + 8)?);
    let sum = checksum(&error).to_be_bytes();
    error[2..4].copy_from_slice(&sum);
    Some((address(12)?, error))
}

/// The internet checksum of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let sum: u32 = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap_or(0)
}

fn socket(family: i32, kind: i32, protocol: i32) -> Result<OwnedFd> {
    // SAFETY: socket(2) returns a descriptor that nobody else owns.
    unsafe {
        let fd = libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol);
        ensure!(fd >= 0, "raw socket: {}", std::io::Error::last_os_error());
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

fn send(socket: &OwnedFd, to: Ipv4Addr, bytes: &[u8]) -> Result<()> {
    // SAFETY: address and bytes are live and of the lengths given; all-zero is a valid sockaddr_in.
    let sent = unsafe {
        let mut address: libc::sockaddr_in = std::mem::zeroed();
        address.sin_family = libc::sa_family_t::try_from(libc::AF_INET)?;
        address.sin_addr.s_addr = u32::from_ne_bytes(to.octets());
        let size = libc::socklen_t::try_from(size_of::<libc::sockaddr_in>())?;
        libc::sendto(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0, (&raw const address).cast(), size)
    };
    ensure!(sent >= 0, "sendto: {}", std::io::Error::last_os_error());
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn checksum_of_a_known_header() {
        let echo = [8, 0, 0, 0, 0, 1, 0, 1];
        assert_eq!(super::checksum(&echo), 0xf7fd);
    }
}
