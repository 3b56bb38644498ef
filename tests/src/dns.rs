//! A name server that fails in one way, or knows one address.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::upstream::Shared;

/// What a name server answers to every query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dns {
    /// This response code: 1 format error, 2 server failure, 3 no such name, 4 not implemented, 5 refused.
    Code(u8),
    /// 127.0.0.1.
    Address,
    /// Nothing.
    Silence,
    /// Bytes that are no answer.
    Garbage,
}

/// Starts to answer; gives the address.
pub(crate) fn serve(answer: Dns, shared: &Arc<Shared>) -> Result<String> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("binding a name server")?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    let address = socket.local_addr()?.to_string();
    let shared = Arc::clone(shared);
    let answering = move || {
        let mut query = [0; 512];
        while shared.goes_on().is_ok() {
            let Ok((count, client)) = socket.recv_from(&mut query) else { continue };
            let reply = reply(answer, &query[..count]);
            if !reply.is_empty() {
                let _ = socket.send_to(&reply, client);
            }
        }
    };
    std::thread::Builder::new().name("dns".into()).spawn(answering).context("starting a name server")?;
    Ok(address)
}

/// The datagram for a query: RFC 1035, 4.1.
fn reply(answer: Dns, query: &[u8]) -> Vec<u8> {
    let mut reply = query.to_vec();
    if reply.len() < 12 {
        return Vec::new();
    }
    match answer {
        Dns::Silence => reply.clear(),
        Dns::Garbage => reply.truncate(5),
        Dns::Code(code) => reply[2..4].copy_from_slice(&[0x81, 0x80 | code]),
        Dns::Address => {
            reply[2..4].copy_from_slice(&[0x81, 0x80]);
            let of_address = reply.ends_with(&[0, 1, 0, 1]);
            // Another type, as AAAA: no such record.
            reply[7] = u8::from(of_address);
            if of_address {
                // The name as in the question, type A, class IN, 60 s, 4 bytes.
                reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
            }
        }
    }
    reply
}
