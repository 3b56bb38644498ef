//! Waiting for conditions with a deadline, and noticing ctrl-c meanwhile. The only place that sleeps to poll.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// How long a condition may take that should hold almost at once.
pub const SOON: Duration = Duration::from_secs(10);

/// What was waited for has not come.
#[derive(Debug)]
pub struct GaveUp {
    what: String,
    limit: Duration,
}

impl fmt::Display for GaveUp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "gave up after {:?} waiting for {}", self.limit, self.what)
    }
}

impl std::error::Error for GaveUp {}

extern "C" fn on_signal(_signal: libc::c_int) {
    INTERRUPTED.store(true, Ordering::SeqCst);
}

/// From here on SIGINT and SIGTERM do not end the program, but every wait: guards then clean up on the way out.
pub fn catch_signals() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the handler only stores to an atomic, which is async-signal-safe; the all-zero sigaction is valid.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_signal as *const () as usize;
            libc::sigaction(signal, &raw const action, std::ptr::null_mut());
        }
    }
}

/// Whether somebody asked the lab to stop.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// The most that one turn of waiting counts: what is longer was a machine that stood still, and all else with it.
const TURN: Duration = Duration::from_millis(500);

/// Waits until `condition` holds; [`GaveUp`] after `limit`, another error at once when interrupted.
pub fn until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) -> Result<()> {
    let mut waited = Duration::ZERO;
    loop {
        let turn = Instant::now();
        if condition() {
            return Ok(());
        }
        if interrupted() {
            bail!("interrupted while waiting for {what}");
        }
        if waited >= limit {
            return Err(GaveUp { what: what.to_owned(), limit }.into());
        }
        std::thread::sleep(Duration::from_millis(2));
        waited += turn.elapsed().min(TURN);
    }
}

/// Waits until `find` yields something.
pub fn until_some<T>(what: &str, limit: Duration, mut find: impl FnMut() -> Option<T>) -> Result<T> {
    let mut found = None;
    until(what, limit, || {
        found = find();
        found.is_some()
    })?;
    found.ok_or_else(|| anyhow::anyhow!("{what} was there and is not"))
}

/// A fault that *is* a time, such as a connection left idle. Never a means to wait for something to happen.
pub fn let_pass(time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    until("time to pass", time + SOON, || Instant::now() >= end)
}
