//! A kernel program that does nothing: what the kernel's clock says of it is the price of the clock and of the call.

use std::fs;
use std::mem::{offset_of, size_of};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result, bail};

use super::programs::{self, Counts};

/// bpf(2): commands and program type, as in include/uapi/linux/bpf.h.
const PROG_LOAD: libc::c_long = 5;
const RAW_TRACEPOINT_OPEN: libc::c_long = 17;
const RAW_TRACEPOINT: u32 = 17;

/// `r0 = 0; exit`.
const NOTHING: [u64; 2] = [0xb7, 0x95];

/// The first members of `union bpf_attr` for PROG_LOAD.
#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
}

/// The same for RAW_TRACEPOINT_OPEN.
#[repr(C)]
struct Open {
    name: u64,
    program: u32,
    padding: u32,
}

const _: () = assert!(size_of::<Load>() == 40 && offset_of!(Open, program) == 8);

/// An attached program that does nothing; it goes with its guard.
#[derive(Debug)]
pub(crate) struct Empty {
    program: OwnedFd,
    _link: OwnedFd,
}

impl Empty {
    /// Attaches it to the tracepoint of TCP state changes.
    pub(crate) fn attach() -> Result<Self> {
        let load = Load {
            kind: RAW_TRACEPOINT,
            count: 2,
            instructions: NOTHING.as_ptr() as u64,
            license: c"GPL".as_ptr() as u64,
            ..Load::default()
        };
        let program = bpf(PROG_LOAD, &load).context("loading an empty program")?;
        let name = c"inet_sock_set_state".as_ptr() as u64;
        let open = Open { name, program: u32::try_from(program.as_raw_fd())?, padding: 0 };
        let link = bpf(RAW_TRACEPOINT_OPEN, &open).context("attaching an empty program")?;
        Ok(Self { program, _link: link })
    }

    pub(crate) fn counts(&self) -> Result<Counts> {
        let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", self.program.as_raw_fd()))?;
        Ok(programs::parse(&text).context("the fdinfo of a program")?.1)
    }
}

fn bpf<T>(command: libc::c_long, attributes: &T) -> Result<OwnedFd> {
    // SAFETY: the attributes are the live beginning of `union bpf_attr` for this command, as long as said; their
    // pointers are to statics. Both commands give a new descriptor or an error.
    unsafe {
        let fd = libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>());
        match i32::try_from(fd) {
            Ok(fd) if fd >= 0 => Ok(OwnedFd::from_raw_fd(fd)),
            _ => bail!("bpf({command}): {}", std::io::Error::last_os_error()),
        }
    }
}
