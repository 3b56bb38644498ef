//! Questions to the kernel about sockets: NETLINK_SOCK_DIAG, in the network namespace of the calling thread.

use std::io;

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_SOCK_DIAG};

/// About one socket, or about all that fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    One,
    All,
}

/// What the kernel answers. ENOENT: there is no such socket.
pub fn ask(about: About, request: SockDiagMessage) -> io::Result<Vec<SockDiagMessage>> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut header = NetlinkHeader::default();
    header.flags = match about {
        About::One => NLM_F_REQUEST,
        About::All => NLM_F_REQUEST | NLM_F_DUMP,
    };
    let mut request = NetlinkMessage::new(header, request.into());
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let mut found = Vec::new();
    loop {
        let (bytes, _) = socket.recv_from_full()?;
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest).map_err(io::Error::other)?;
            match message.payload {
                NetlinkPayload::Done(_) => return Ok(found),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::InnerMessage(message) => found.push(message),
                _ => {}
            }
            let length = (message.header.length as usize).next_multiple_of(4);
            rest = rest.get(length.max(4)..).unwrap_or_default();
        }
        if about == About::One {
            return Ok(found);
        }
    }
}

/// What the kernel answers about all in the namespace that the thread is in, as far as `wanted` takes it.
pub fn dump<T>(request: SockDiagMessage, wanted: impl Fn(SockDiagMessage) -> Option<T>) -> io::Result<Vec<T>> {
    Ok(ask(About::All, request)?.into_iter().filter_map(wanted).collect())
}
