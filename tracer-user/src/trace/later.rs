//! Reasons that take longer to find than a verdict may wait: they follow as `update` records.

use std::{
    net::SocketAddr,
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use crate::{
    context::ports::{self, Ports},
    model::{address::Address, cause::Cause, verdict::Failure},
    record,
};

/// How long an answer is good for: a flood of failures asks once.
const FRESH: Duration = Duration::from_secs(1);
/// Questions on their way at once.
const MOST: usize = 4;

/// Questions on their way, and failures that wait for their answers.
#[derive(Debug, Default)]
pub(super) struct Later {
    asked: Vec<Asked>,
}

#[derive(Debug)]
struct Asked {
    worker: u32,
    upstream: SocketAddr,
    since: Instant,
    waiting: Vec<u64>,
    answer: Receiver<Option<Ports>>,
    answered: bool,
    root: Option<record::Root>,
}

impl Later {
    /// Asks, if there is something to be asked about this failure.
    pub(super) fn ask(&mut self, failure: &Failure) {
        let (Cause::PortsExhausted, Some(Address::Tcp(upstream))) = (failure.cause, &failure.upstream) else { return };
        let (worker, upstream, id) = (failure.worker, *upstream, failure.id.0);
        if let Some(asked) = self.asked.iter_mut().find(|asked| asked.worker == worker && asked.upstream == upstream) {
            asked.waiting.push(id);
            return;
        }
        if self.asked.len() >= MOST {
            return;
        }
        let (sender, answer) = channel();
        let look = move || {
            // Nobody waits for it any more when the session has ended.
            let _ = sender.send(ports::look(worker, upstream));
        };
        // Without a thread there is no answer.
        if thread::Builder::new().name("look-at-ports".into()).spawn(look).is_ok() {
            let since = Instant::now();
            self.asked.push(Asked { worker, upstream, since, waiting: vec![id], answer, answered: false, root: None });
        }
    }

    /// The reasons found since, by failure; waits so long for each that is missing.
    pub(super) fn answers(&mut self, patience: Duration) -> Vec<(u64, record::Root)> {
        let mut found = Vec::new();
        for asked in &mut self.asked {
            if !asked.answered {
                match asked.answer.recv_timeout(patience) {
                    Ok(ports) => asked.root = ports.map(|ports| root(asked.upstream, &ports)),
                    Err(RecvTimeoutError::Timeout) => continue,
                    Err(RecvTimeoutError::Disconnected) => {}
                }
                asked.answered = true;
            }
            if let Some(root) = &asked.root {
                found.extend(asked.waiting.drain(..).map(|id| (id, root.clone())));
            }
        }
        self.asked.retain(|asked| !asked.answered || asked.since.elapsed() < FRESH);
        found
    }
}

fn root(upstream: SocketAddr, ports: &Ports) -> record::Root {
    let Ports { by_state, range: (first, last), reuse } = ports;
    let count = u32::from(*last).saturating_sub(u32::from(*first)) + 1;
    let used: Vec<String> = by_state.iter().map(|(state, count)| format!("{count} {state}")).collect();
    let used = if used.is_empty() { "no sockets".to_owned() } else { used.join(", ") };
    let reuse = reuse.map_or_else(String::new, |reuse| format!(", tcp_tw_reuse {reuse}"));
    record::Root {
        kind: record::RootKind::Ports,
        text: format!("towards {upstream}: {used}; {count} local ports ({first} to {last}){reuse}"),
        process: None,
        listener: None,
    }
}

#[cfg(test)]
mod tests {
    use super::root;
    use crate::context::ports::Ports;

    #[test]
    fn sockets_and_ports_in_words() {
        let ports = Ports { by_state: vec![("ESTAB", 2), ("TIME-WAIT", 14)], range: (40_000, 40_015), reuse: Some(2) };
        assert_eq!(
            root("127.0.0.1:80".parse().expect("an address"), &ports).text,
            "towards 127.0.0.1:80: 2 ESTAB, 14 TIME-WAIT; 16 local ports (40000 to 40015), tcp_tw_reuse 2"
        );
    }
}
