//! Says where a scenario stands that does not end: nobody could ask any more once the machine is gone.

use std::collections::VecDeque;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::child::{children, standing};

/// No scenario takes so long, on an emulated processor either.
const LIMIT: Duration = Duration::from_secs(300);

/// A thread that is told what begins.
#[derive(Debug)]
pub(crate) struct Watchdog {
    begun: Sender<String>,
}

impl Watchdog {
    /// It ends with its owner.
    pub(crate) fn new() -> Self {
        Self::after(LIMIT, |text| println!("{text}"))
    }

    fn after(limit: Duration, say: impl Fn(String) + Send + 'static) -> Self {
        let (begun, told) = channel::<String>();
        thread::spawn(move || {
            let mut next = told.recv();
            while let Ok(scenario) = next {
                let begun = Instant::now();
                next = loop {
                    match told.recv_timeout(limit) {
                        // Again and again: a machine that says nothing is taken for dead.
                        Err(RecvTimeoutError::Timeout) => {
                            say(format!("{scenario}: no end after {:.0?}; {}", begun.elapsed(), all_standing()));
                        }
                        Ok(scenario) => break Ok(scenario),
                        Err(RecvTimeoutError::Disconnected) => return,
                    }
                };
            }
        });
        Self { begun }
    }

    /// This scenario begins, and the one before it has ended.
    pub(crate) fn begins(&self, scenario: &str) {
        // Without the thread there is nobody to say it; the scenarios run on.
        let _ = self.begun.send(scenario.to_owned());
    }
}

/// Where the threads of this process and of all that it started are.
fn all_standing() -> String {
    let mut processes = VecDeque::from([std::process::id()]);
    let mut text = Vec::new();
    while let Some(pid) = processes.pop_front() {
        text.push(format!("[{pid}] {}", standing(pid)));
        processes.extend(children(pid));
    }
    text.join("\n    ")
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::Watchdog;

    #[test]
    fn what_does_not_end_is_said_with_where_it_stands() {
        let (sender, said) = channel();
        let watchdog = Watchdog::after(Duration::from_millis(50), move |text| sender.send(text).unwrap());
        watchdog.begins("roots/hangs");
        let text = said.recv_timeout(Duration::from_secs(20)).unwrap();
        assert!(text.starts_with("roots/hangs: no end after "), "{text}");
        assert!(text.contains("thread "), "{text}");
        said.recv_timeout(Duration::from_secs(20)).expect("it is said again");
    }
}
