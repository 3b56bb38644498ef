//! The ring buffer that the kernel programs write to, and how far it has been read.
//!
//! A program first reserves room and then writes (`bpf_ringbuf_reserve()`, kernel/bpf/ringbuf.c). While it has been
//! interrupted in between, its event keeps back all that were reserved after it, those of other CPUs as well: the reader finds
//! nothing, and yet the ring is not empty. The two positions in the ring's first pages tell the one from the other.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd},
    sync::atomic::{AtomicUsize, Ordering},
};

use aya::maps::{MapData, RingBuf, ring_buf::RingBufItem};
use memmap2::{MmapOptions, MmapRaw};
use rustix::param::page_size;

/// The reader's end.
#[expect(missing_debug_implementations, reason = "aya's map has none")]
pub struct Ring {
    events: RingBuf<MapData>,
    positions: Positions,
}

impl Ring {
    /// Errors: the ring's first two pages cannot be mapped.
    pub fn new(events: RingBuf<MapData>) -> io::Result<Self> {
        let positions = Positions::of(events.as_fd())?;
        Ok(Self { events, positions })
    }

    /// The next event that is written to its end; None: there is none, or one that is not comes first.
    pub fn take(&mut self) -> Option<RingBufItem<'_>> {
        self.events.next()
    }

    /// Up to where room is reserved: what happened before this call is before it.
    pub fn reserved(&self) -> Position {
        Position(self.positions.at(page_size()))
    }

    /// Whether every event before this position has been read.
    pub fn has_read(&self, position: Position) -> bool {
        position.is_behind(self.positions.at(0))
    }
}

/// A place in the stream of all events, bytes.
#[derive(Clone, Copy, Debug)]
pub struct Position(usize);

impl Position {
    /// Positions wrap around.
    const fn is_behind(self, reader: usize) -> bool {
        reader.wrapping_sub(self.0).cast_signed() >= 0
    }
}

/// The page that begins with the reader's position, and the one that begins with the writers'.
struct Positions(MmapRaw);

impl Positions {
    fn of(ring: BorrowedFd<'_>) -> io::Result<Self> {
        MmapOptions::new().len(2 * page_size()).map_raw_read_only(ring.as_raw_fd()).map(Self)
    }

    fn at(&self, offset: usize) -> usize {
        // SAFETY: the first word of one of the two pages, aligned as pages are; whoever writes it, does so in one piece.
        let position = unsafe { &*self.0.as_ptr().add(offset).cast::<AtomicUsize>() };
        position.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use std::os::{fd::AsFd as _, unix::fs::FileExt as _};

    use rustix::{
        fs::{MemfdFlags, memfd_create},
        param::page_size,
    };

    use super::{Position, Positions};

    #[test]
    fn an_event_that_is_being_written_is_not_read() {
        let ring = std::fs::File::from(memfd_create("ring", MemfdFlags::CLOEXEC).expect("a file"));
        ring.set_len(2 * page_size() as u64).expect("room");
        let positions = Positions::of(ring.as_fd()).expect("two pages");
        let put = |offset: usize, position: usize| {
            ring.write_all_at(&position.to_ne_bytes(), offset as u64).expect("a word");
        };
        put(page_size(), 4096);
        let reserved = Position(positions.at(page_size()));
        put(0, 4000);
        assert!(!reserved.is_behind(positions.at(0)));
        put(0, 4096);
        assert!(reserved.is_behind(positions.at(0)));
        put(0, 5000);
        assert!(reserved.is_behind(positions.at(0)), "later ones, too");
        assert!(Position(usize::MAX).is_behind(10) && !Position(10).is_behind(usize::MAX), "beyond the last number");
    }
}
