//! Classic BPF filters on listening sockets: an upstream host that swallows packets, without a firewall.

use std::net::TcpListener;
use std::os::fd::AsRawFd;

use anyhow::{Result, ensure};

/// What the upstream's socket lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Nothing: every SYN is lost.
    Everything,
    /// SYNs only: no handshake is ever completed at this end.
    Syn,
    /// SYNs, and what these two ports send: only their handshakes are completed.
    SynAndFrom([u16; 2]),
    /// Handshakes only: no segment with payload ever arrives, so it is never acknowledged either.
    Payload,
}

fn instruction(code: u32, jump_true: u8, jump_false: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: u16::try_from(code).unwrap_or(0), jt: jump_true, jf: jump_false, k }
}

/// Puts a filter on a listener; connections accepted later inherit it.
///
/// A filter on a TCP socket sees the segment from the TCP header on; the answer 0 drops it
/// (`tcp_filter()`, net/ipv4/tcp_ipv4.c, v6.12).
pub fn attach(listener: &TcpListener, filter: Filter) -> Result<()> {
    use libc::{BPF_A, BPF_ABS, BPF_ALU, BPF_AND, BPF_B, BPF_H, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_LEN};
    use libc::{BPF_MISC, BPF_RET, BPF_RSH, BPF_TAX, BPF_W, BPF_X};
    let drop = instruction(BPF_RET | BPF_K, 0, 0, 0);
    let pass = instruction(BPF_RET | BPF_K, 0, 0, u32::MAX);
    let syn = [
        // The flags: SYN is 2.
        instruction(BPF_LD | BPF_B | BPF_ABS, 0, 0, 13),
        instruction(BPF_ALU | BPF_AND | BPF_K, 0, 0, 2),
        instruction(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, 2),
        drop,
        pass,
    ];
    let mut program = match filter {
        Filter::Everything => vec![drop],
        Filter::Syn => syn.to_vec(),
        Filter::SynAndFrom([one, other]) => {
            let mut program = vec![
                // The source port.
                instruction(BPF_LD | BPF_H | BPF_ABS, 0, 0, 0),
                instruction(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, one.into()),
                instruction(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, other.into()),
                pass,
            ];
            program.extend(syn);
            program
        }
        Filter::Payload => vec![
            // X = data offset in bytes: the upper half of byte 12, times four.
            instruction(BPF_LD | BPF_B | BPF_ABS, 0, 0, 12),
            instruction(BPF_ALU | BPF_AND | BPF_K, 0, 0, 0xf0),
            instruction(BPF_ALU | BPF_RSH | BPF_K, 0, 0, 2),
            instruction(BPF_MISC | BPF_TAX, 0, 0, 0),
            instruction(BPF_LD | BPF_W | BPF_LEN, 0, 0, 0),
            instruction(BPF_JMP | BPF_JEQ | BPF_X, 1, 0, 0),
            drop,
            pass,
        ],
    };
    let _ = BPF_A;
    let length = u16::try_from(program.len())?;
    let filter = libc::sock_fprog { len: length, filter: program.as_mut_ptr() };
    set_option(listener, libc::SO_ATTACH_FILTER, &filter)
}

/// Takes the filter off again: the upstream host is back.
pub fn detach(listener: &TcpListener) -> Result<()> {
    set_option(listener, libc::SO_DETACH_FILTER, &0_i32)
}

fn set_option<T>(listener: &TcpListener, option: libc::c_int, value: &T) -> Result<()> {
    let size = libc::socklen_t::try_from(size_of::<T>())?;
    // SAFETY: the socket is open, and `value` is a live object of the size given, as the option wants it.
    let code = unsafe {
        libc::setsockopt(listener.as_raw_fd(), libc::SOL_SOCKET, option, std::ptr::from_ref(value).cast(), size)
    };
    ensure!(code == 0, "setsockopt {option}: {}", std::io::Error::last_os_error());
    Ok(())
}
