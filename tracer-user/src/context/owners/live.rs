//! A place where something listens now, and who opened its sockets: several may share it (SO_REUSEPORT).

use std::collections::HashMap;

use crate::{
    context::unix::holders::is_manager,
    model::host::{Actor, Name},
};

/// Processes remembered of one place.
const OPENERS: usize = 64;

/// A live listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    /// Who called listen(2), or has it open.
    openers: Vec<Opener>,
    /// Since when somebody listens there. None: for longer than the tracing.
    pub since_ns: Option<u64>,
    /// How many sockets share the place.
    sockets: u32,
    /// When one of them was closed last.
    pub(super) closed_ns: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Opener {
    name: Name,
    sockets: u32,
    /// It has ended; somebody else has them.
    left: bool,
}

impl Live {
    pub(super) fn new(opener: &Name, since_ns: Option<u64>) -> Self {
        let mut live = Self { openers: Vec::new(), since_ns, sockets: 0, closed_ns: 0 };
        live.opened(opener, since_ns);
        live
    }

    /// Who answers for it. None: not known, or several do; the service manager opens sockets for others, and whoever has ended has
    /// left it to one.
    pub fn owner(&self) -> Option<&Name> {
        let [opener] = &self.openers[..] else { return None };
        Some(&opener.name).filter(|name| !is_manager(name) && !opener.left)
    }

    pub(super) fn is_opened_by(&self, pid: u32) -> bool {
        self.openers.iter().any(|opener| opener.name.pid == pid && !opener.left)
    }

    pub(super) const fn is_open(&self) -> bool {
        self.sockets > 0
    }

    /// How many sockets each has opened, by pid.
    pub(super) fn by_opener(&self) -> HashMap<u32, u32> {
        self.openers.iter().map(|opener| (opener.name.pid, opener.sockets)).collect()
    }

    /// One more socket.
    pub(super) fn opened(&mut self, by: &Name, time_ns: Option<u64>) {
        self.sockets += 1;
        self.since_ns = self.since_ns.min(time_ns);
        let room = self.openers.len() < OPENERS;
        match self.openers.iter_mut().find(|opener| opener.name.pid == by.pid) {
            Some(opener) => {
                *opener = Opener { name: by.clone(), sockets: opener.sockets + 1, left: false };
            }
            None if room => self.openers.push(Opener { name: by.clone(), sockets: 1, left: false }),
            None => {}
        }
    }

    /// A process, the last that had it, closed one of the sockets: who had opened that, as far as it can be told.
    pub(super) fn closed(&mut self, by: &Actor, time_ns: u64) -> Option<u32> {
        self.closed_ns = time_ns;
        self.sockets = self.sockets.saturating_sub(1);
        let of = |pid: u32| self.openers.iter().position(|opener| opener.name.pid == pid);
        let only = (self.openers.len() == 1).then_some(0);
        let index = of(by.name.pid).or_else(|| of(by.parent)).or(only)?;
        let opener = &mut self.openers[index];
        let pid = opener.name.pid;
        opener.sockets -= 1;
        if opener.sockets == 0 {
            self.openers.remove(index);
        }
        Some(pid)
    }

    pub(super) fn left(&mut self, pid: u32) {
        self.openers.iter_mut().filter(|opener| opener.name.pid == pid).for_each(|opener| opener.left = true);
    }
}
