//! Standard output that waits for its reader, but no longer than the program is wanted.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::OFlags,
    io::Errno,
};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag::register,
};

/// How often it is asked whether it is still wanted.
const TURN: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// For how many of them a slow reader is waited for once it is not.
const LAST_TURNS: u32 = 30;

/// Waits where nobody reads, so that nothing is lost; once SIGINT or SIGTERM has come, not for long: then that is a closed pipe.
#[derive(Debug)]
pub struct Stdout {
    ending: Arc<AtomicBool>,
    /// The same pipe or terminal, opened anew so that writing to it does not block: others may use the descriptor that was given.
    /// None: a file, or what cannot be opened anew.
    own: Option<File>,
}

impl Stdout {
    /// Begins to listen to those signals, beside whoever else does.
    pub fn new() -> Self {
        let ending = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // The session listens to the same ones, and says so where that cannot be.
            let _ = register(signal, Arc::clone(&ending));
        }
        Self { ending, own: open() }
    }
}

impl Default for Stdout {
    fn default() -> Self {
        Self::new()
    }
}

fn open() -> Option<File> {
    const STDOUT: &str = "/proc/self/fd/1";
    let kind = std::fs::metadata(STDOUT).ok()?.file_type();
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let open = || OpenOptions::new().write(true).custom_flags(flags).open(STDOUT).ok();
    (kind.is_fifo() || kind.is_char_device()).then(open)?
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(own) = &mut self.own else { return io::stdout().write(bytes) };
        let mut turns = 0;
        while turns < LAST_TURNS {
            match own.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return written,
            }
            match poll(&mut [PollFd::new(own, PollFlags::OUT)], Some(&TURN)) {
                Ok(0) => turns += u32::from(self.ending.load(Ordering::Relaxed)),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.own.is_some() { Ok(()) } else { io::stdout().flush() }
    }
}
