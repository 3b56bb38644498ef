//! What takes too long for the thread that must keep up with events: done on one of its own, from time to time.

use std::{
    sync::mpsc::{Receiver, TryRecvError, channel},
    thread,
    time::{Duration, Instant},
};

/// One piece of work at a time, and what came of the last.
#[derive(Debug)]
pub struct Aside<T> {
    name: &'static str,
    least: Duration,
    share: u32,
    doing: Option<Receiver<(T, Duration)>>,
    next: Option<Instant>,
}

impl<T: Send + 'static> Aside<T> {
    /// At least so long from one end to the next beginning, and one in `share` is the part of the time that it may take; `name` is
    /// the thread's, 15 letters.
    pub const fn new(name: &'static str, least: Duration, share: u32) -> Self {
        Self { name, least, share, doing: None, next: None }
    }

    /// Is it time to begin anew?
    pub fn is_due(&self) -> bool {
        self.doing.is_none() && self.next.is_none_or(|next| Instant::now() >= next)
    }

    /// Begins. Without a thread nothing comes of it.
    pub fn begin(&mut self, work: impl FnOnce() -> T + Send + 'static) {
        let (sender, receiver) = channel();
        let work = move || {
            let begun = Instant::now();
            let done = work();
            // Nobody waits for it any more when the session has ended.
            let _ = sender.send((done, begun.elapsed()));
        };
        if thread::Builder::new().name(self.name.into()).spawn(work).is_ok() {
            self.doing = Some(receiver);
        }
    }

    /// What came of it, once.
    pub fn take(&mut self) -> Option<T> {
        let (done, took) = match self.doing.as_ref()?.try_recv() {
            Ok((done, took)) => (Some(done), took),
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => (None, Duration::ZERO),
        };
        self.doing = None;
        self.next = Some(Instant::now() + self.least.max(took * self.share));
        done
    }
}

#[cfg(test)]
mod tests {
    use std::{
        thread,
        time::{Duration, Instant},
    };

    use super::Aside;

    const PERIOD: Duration = Duration::from_millis(50);

    #[test]
    fn it_rests_in_proportion() {
        const SHARE: u32 = 100;
        let mut aside = Aside::new("test", PERIOD, SHARE);
        assert!(aside.is_due() && aside.take().is_none());
        aside.begin(|| thread::sleep(Duration::from_millis(5)));
        assert!(!aside.is_due());
        while aside.take().is_none() {
            thread::yield_now();
        }
        let next = aside.next.expect("it has ended");
        assert!(!aside.is_due() && next > Instant::now() + SHARE * Duration::from_millis(4));
    }
}
