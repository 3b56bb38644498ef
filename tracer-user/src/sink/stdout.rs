//! Standard output that waits for its reader, but no longer than the program is wanted.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag::register,
};

/// A pipe that can be written to at all takes so much without blocking (PIPE_BUF).
const PIECE: usize = 4096;
/// How often it is asked whether it is still wanted.
const TURN: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// For how many of them a slow reader is waited for once it is not.
const LAST_TURNS: u32 = 30;

/// Waits where nobody reads, so that nothing is lost; once SIGINT or SIGTERM has come, not for long: then that is a closed pipe.
#[derive(Debug)]
pub struct Stdout {
    ending: Arc<AtomicBool>,
}

impl Stdout {
    /// Begins to listen to those signals, beside whoever else does.
    pub fn new() -> Self {
        let ending = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // The session listens to the same ones, and says so where that cannot be.
            let _ = register(signal, Arc::clone(&ending));
        }
        Self { ending }
    }

    /// Waits until something can be written.
    fn ready(&self) -> io::Result<()> {
        let stdout = io::stdout();
        let mut wanted = [PollFd::new(&stdout, PollFlags::OUT)];
        let mut turns = 0;
        while turns < LAST_TURNS {
            match poll(&mut wanted, Some(&TURN)) {
                Ok(0) => turns += u32::from(self.ending.load(Ordering::Relaxed)),
                Err(Errno::INTR) => {}
                // What cannot be waited for is written to.
                Ok(_) | Err(_) => return Ok(()),
            }
        }
        Err(io::ErrorKind::BrokenPipe.into())
    }
}

impl Default for Stdout {
    fn default() -> Self {
        Self::new()
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.ready()?;
        let piece = &bytes[..bytes.len().min(PIECE)];
        // Unbuffered: what the standard library would keep back for the end of a line, it would write when nobody reads.
        match rustix::io::write(io::stdout(), piece) {
            Ok(count) => Ok(count),
            Err(Errno::AGAIN) => Err(io::ErrorKind::Interrupted.into()),
            Err(error) => Err(error.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
