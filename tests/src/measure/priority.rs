//! Going before the other programs of the host, so that what they do disturbs the figures less.
//!
//! Everything that is measured, with a tool or without, shares the priority; nothing changes between them.

use std::fs;

/// The niceness of everything that is measured.
const NICE: i32 = -10;

/// Where the kernel shares processors among sessions first (sched(7), autogroup), the session has a niceness of its own.
const SESSION: &str = "/proc/self/autogroup";

/// While it lives this process, and those that it starts, go first. Without the right to that, things stay as they are.
#[derive(Debug)]
pub(crate) struct First {
    session_before: Option<i32>,
}

impl First {
    pub(crate) fn go() -> Self {
        // SAFETY: setpriority(2) takes three numbers.
        unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
        let session = fs::read_to_string(SESSION).unwrap_or_default();
        let session_before = nice_of(&session).filter(|_| fs::write(SESSION, NICE.to_string()).is_ok());
        Self { session_before }
    }
}

impl Drop for First {
    fn drop(&mut self) {
        let Some(before) = self.session_before else { return };
        if let Err(error) = fs::write(SESSION, before.to_string()) {
            eprintln!("lab: {SESSION} should be {before} again, but: {error}");
        }
    }
}

/// As in `/autogroup-23 nice 0`.
fn nice_of(text: &str) -> Option<i32> {
    text.trim().rsplit_once(" nice ")?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn reads_the_sessions_niceness() {
        assert_eq!(super::nice_of("/autogroup-23 nice -5\n"), Some(-5));
        assert_eq!(super::nice_of(""), None);
    }
}
