//! Standard output that waits for its reader, but no longer than the program is wanted.

use std::{
    collections::VecDeque,
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

/// What a reader that is slow, or has stopped to look at something, may be behind: a capture beside it goes on meanwhile.
const BACKLOG: usize = 4 << 20;

/// Keeps what is not read yet, and waits where that is too much, so that nothing is lost; once SIGINT or SIGTERM has come, not for
/// long: then that is a closed pipe. What is left in the end is waited for when it is dropped.
#[derive(Debug)]
pub struct Stdout {
    ending: Arc<AtomicBool>,
    /// The same pipe or terminal, opened anew so that writing to it does not block: others may use the descriptor that was given.
    /// None: a file, or what cannot be opened anew.
    own: Option<File>,
    backlog: VecDeque<u8>,
}

impl Stdout {
    /// Begins to listen to those signals, beside whoever else does.
    pub fn new() -> Self {
        let ending = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // The session listens to the same ones, and says so where that cannot be.
            let _ = register(signal, Arc::clone(&ending));
        }
        Self { ending, own: open(), backlog: VecDeque::new() }
    }

    /// Hands on what has been kept, as far as it is taken.
    fn hand_on(&mut self) -> io::Result<()> {
        let Some(own) = &mut self.own else { return Ok(()) };
        while !self.backlog.is_empty() {
            match own.write(self.backlog.as_slices().0) {
                Ok(written) => drop(self.backlog.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.backlog = VecDeque::new();
        Ok(())
    }

    /// Waits until no more than so many bytes are kept.
    fn wait(&mut self, most: usize) -> io::Result<()> {
        let mut turns = 0;
        self.hand_on()?;
        while self.backlog.len() > most {
            let Some(own) = &self.own else { break };
            match poll(&mut [PollFd::new(own, PollFlags::OUT)], Some(&TURN)) {
                Ok(0) => turns += u32::from(self.ending.load(Ordering::Relaxed)),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            if turns >= LAST_TURNS {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            self.hand_on()?;
        }
        Ok(())
    }
}

impl Drop for Stdout {
    fn drop(&mut self) {
        // Nobody is left to be told.
        let _ = self.wait(0);
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
        if self.own.is_none() {
            return io::stdout().write(bytes);
        }
        self.wait(BACKLOG.saturating_sub(bytes.len()))?;
        self.backlog.extend(bytes);
        self.hand_on()?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.own.is_some() { self.hand_on() } else { io::stdout().flush() }
    }
}
