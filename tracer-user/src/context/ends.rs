//! Where a request waits: who of this host has the other end of nginx's connection, or who should have accepted it.
//!
//! Reads the descriptors of all processes, and changes the network namespace of the calling thread: for threads that do
//! nothing else.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::SocketAddr,
};

use super::{
    backlog::is_full,
    namespaces::{self, enter},
    process,
    standing::{Standing, standing},
    tcp::{self, Listener},
    unix::{
        diag::{self, Bound},
        holders::{self, Holder},
        look::{self, Holders, Known},
    },
};
use crate::model::{address::Address, host::Name};

/// Which end of which connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The one at `upstream` of the connection from `nginx`.
    Tcp { upstream: SocketAddr, nginx: SocketAddr },
    /// The socket with this inode.
    Inode(u64),
    /// None yet: whoever listens there.
    Listener(Address),
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// nginx's worker.
    pub worker: u32,
    /// When it failed.
    pub time_ns: u64,
    pub wanted: Wanted,
}

/// A process, and what it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    pub name: Name,
    pub parent: u32,
    /// Its parent, if that is of the same program.
    pub master: Option<Name>,
    pub standing: Standing,
    /// Connections of the same listener that it has.
    pub connections: usize,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// These have it; bytes that they have not read of it, and that they have sent without effect; None: not known.
    Held { by: Vec<Seat>, unread: Option<u32>, unacknowledged: Option<u32> },
    /// Nobody has accepted it.
    Queued(Queue),
}

/// A listener, and those who have it open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    pub at: String,
    pub limit: Option<u32>,
    pub queued: Option<u32>,
    /// No more fit in, at one of them where several share the place.
    pub full: bool,
    /// It is in another network namespace than nginx, which has that address: that the way leads there is taken for granted.
    pub by_address: bool,
    pub open: Vec<Seat>,
}

impl Queue {
    /// The one that answers for it: of a prefork server the master.
    pub fn owner(&self) -> Option<&Seat> {
        holders::master(&self.open, |seat| (&seat.name, seat.parent))
    }

    /// Those that accept: all but the masters of prefork servers, and the service manager.
    pub fn accepting(&self) -> Vec<&Seat> {
        let is_master = |seat: &Seat| self.open.iter().any(|other| other.parent == seat.name.pid);
        let own = |seat: &&Seat| !holders::is_manager(&seat.name) && !is_master(seat);
        let accepting: Vec<&Seat> = self.open.iter().filter(own).collect();
        if accepting.is_empty() { self.owner().into_iter().collect() } else { accepting }
    }
}

/// Half an answer: sockets, before it is known who has them.
enum Sockets {
    Held { inode: u64, unread: Option<u32>, unacknowledged: Option<u32> },
    Queued { queue: Queue, listeners: Vec<u64>, accepted: Vec<u64> },
}

impl Sockets {
    fn inodes(&self) -> impl Iterator<Item = u64> {
        let (one, listeners, accepted) = match self {
            Self::Held { inode, .. } => (Some(*inode), &[][..], &[][..]),
            Self::Queued { listeners, accepted, .. } => (None, &listeners[..], &accepted[..]),
        };
        one.into_iter().chain(listeners.iter().copied()).chain(accepted.iter().copied())
    }
}

/// Looks, for all of them at once. None: the end is not on this host, is closing, or nobody has it.
pub fn look(questions: &[Question]) -> Vec<Option<Seen>> {
    let mut found: Vec<Option<Sockets>> = questions.iter().map(|_| None).collect();
    let mut by_worker: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (index, question) in questions.iter().enumerate() {
        by_worker.entry(question.worker).or_default().push(index);
    }
    for (worker, indices) in by_worker {
        in_namespaces(worker, questions, &indices, &mut found);
    }
    let wanted: HashSet<u64> = found.iter().flatten().flat_map(Sockets::inodes).collect();
    let holders = if wanted.is_empty() { Holders::new() } else { holders::of(&wanted) };
    let mut standings = HashMap::new();
    found.into_iter().map(|sockets| seen(&sockets?, &holders, &mut standings)).collect()
}

/// Looks first where the worker is, then everywhere else: the other end may be in a container.
fn in_namespaces(worker: u32, questions: &[Question], indices: &[usize], found: &mut [Option<Sockets>]) {
    let Some(own) = namespaces::netns(worker) else { return };
    if enter(worker).is_err() {
        return;
    }
    for index in indices {
        found[*index] = sockets(&questions[*index]);
    }
    let elsewhere = |index: &&usize| {
        let far = match &questions[**index].wanted {
            Wanted::Tcp { upstream, .. } | Wanted::Listener(Address::Tcp(upstream)) => !upstream.ip().is_loopback(),
            Wanted::Inode(_) | Wanted::Listener(_) => false,
        };
        far && found[**index].is_none()
    };
    let missing: Vec<usize> = indices.iter().filter(elsewhere).copied().collect();
    if missing.is_empty() {
        return;
    }
    // How many have the address of a listener for their own, by question.
    let mut owners = HashMap::<usize, usize>::new();
    for (netns, pid) in namespaces::Snapshot::read().with(None) {
        if netns == own || enter(pid).is_err() {
            continue;
        }
        for index in &missing {
            if found[*index].is_none() {
                found[*index] = sockets(&questions[*index]);
            }
            if let Wanted::Listener(Address::Tcp(upstream)) = &questions[*index].wanted
                && namespaces::owns_here(upstream.ip())
            {
                *owners.entry(*index).or_default() += 1;
                if let Some(Sockets::Queued { queue, .. }) = &mut found[*index] {
                    queue.by_address = true;
                }
            }
        }
    }
    // Networks of containers may have the same addresses: where the SYNs went is not known then.
    for (index, _) in owners.into_iter().filter(|(_, count)| *count > 1) {
        found[index] = None;
    }
}

fn sockets(Question { worker, time_ns, wanted }: &Question) -> Option<Sockets> {
    match wanted {
        Wanted::Inode(inode) => Some(Sockets::Held { inode: *inode, unread: None, unacknowledged: None }),
        Wanted::Tcp { upstream, nginx } => {
            let end = tcp::end(*upstream, *nginx)?;
            match end.inode {
                Some(inode) => {
                    Some(Sockets::Held { inode, unread: Some(end.unread), unacknowledged: Some(end.unacknowledged) })
                }
                None => tcp_queue(*upstream, |listener| listener.queued > 0),
            }
        }
        // Another namespace's listener on the same port is somebody else's.
        Wanted::Listener(Address::Tcp(upstream)) => {
            namespaces::owns_here(upstream.ip()).then(|| tcp_queue(*upstream, Listener::is_full)).flatten()
        }
        Wanted::Listener(Address::Unix(path)) => {
            let asked = look::Asked { worker: *worker, time_ns: *time_ns, path: path.clone() };
            let served = look::look(&asked, &Known::default())?.served?;
            // The look has gone through all namespaces.
            enter(*worker).ok()?;
            let accepted = match &served.listener.bound {
                Bound::Nothing => Vec::new(),
                bound => diag::accepted(bound),
            };
            let (limit, queued) = (served.listener.limit, served.listener.queued);
            let full = limit.zip(queued).is_some_and(|(limit, queued)| is_full(queued, limit));
            let queue = Queue { at: wanted_address(path), limit, queued, full, by_address: false, open: Vec::new() };
            Some(Sockets::Queued { queue, listeners: vec![served.listener.inode], accepted })
        }
        Wanted::Listener(Address::Name(_)) => None,
    }
}

fn wanted_address(path: &str) -> String {
    Address::Unix(path.to_owned()).to_string()
}

/// The listener that takes connections to an address: the most particular one. Several may share the place: then those that
/// are as meant, if there are any, for the others have nothing to do with it.
fn tcp_queue(upstream: SocketAddr, meant: fn(&Listener) -> bool) -> Option<Sockets> {
    let mut listeners = tcp::listeners(upstream.port());
    let rank = |address: SocketAddr| match (address.ip(), upstream.ip()) {
        (own, wanted) if own == wanted => Some(0),
        (own, wanted) if own.is_unspecified() && own.is_ipv4() == wanted.is_ipv4() => Some(1),
        (own, _) if own.is_unspecified() && own.is_ipv6() => Some(2),
        _ => None,
    };
    let best = listeners.iter().filter_map(|listener| rank(listener.address)).min()?;
    listeners.retain(|listener| rank(listener.address) == Some(best));
    if listeners.iter().any(meant) {
        listeners.retain(meant);
    }
    let first = *listeners.first()?;
    let alone = listeners.len() == 1;
    let queue = Queue {
        at: first.address.to_string(),
        limit: first.limit.filter(|_| alone),
        queued: alone.then_some(first.queued),
        full: listeners.iter().any(Listener::is_full),
        by_address: false,
        open: Vec::new(),
    };
    let listeners = listeners.iter().map(|listener| listener.inode).collect();
    Some(Sockets::Queued { queue, listeners, accepted: tcp::accepted(first.address) })
}

fn seen(sockets: &Sockets, holders: &Holders, standings: &mut HashMap<u32, Option<Standing>>) -> Option<Seen> {
    let mut seat = |holder: &Holder, connections: usize| {
        let (name, parent) = (holder.name.clone(), holder.parent);
        let standing = standings.entry(name.pid).or_insert_with(|| standing(name.pid)).clone()?;
        let master = process::name(parent).filter(|master| process::same_program(&master.comm, &name.comm));
        Some(Seat { name, parent, master, standing, connections })
    };
    let of = |inode: &u64| holders.get(inode).map_or(&[][..], Vec::as_slice);
    match sockets {
        Sockets::Held { inode, unread, unacknowledged } => {
            let by: Vec<Seat> = of(inode).iter().filter_map(|holder| seat(holder, 1)).collect();
            (!by.is_empty()).then_some(Seen::Held { by, unread: *unread, unacknowledged: *unacknowledged })
        }
        Sockets::Queued { queue, listeners, accepted } => {
            let mut open: Vec<Seat> = Vec::new();
            for holder in listeners.iter().flat_map(of) {
                let connections = accepted.iter().filter(|inode| of(inode).contains(holder)).count();
                if !open.iter().any(|seat| seat.name.pid == holder.name.pid) {
                    open.extend(seat(holder, connections));
                }
            }
            (!open.is_empty()).then(|| Seen::Queued(Queue { open, ..queue.clone() }))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        thread,
    };

    use super::{Question, Queue, Seat, Seen, Standing, Wanted, look};
    use crate::model::{address::Address, host::Name};

    fn seen(wanted: Wanted) -> Option<Seen> {
        let question = Question { worker: std::process::id(), time_ns: u64::MAX, wanted };
        thread::spawn(move || look(&[question]).remove(0)).join().expect("no panic")
    }

    #[test]
    fn first_in_the_queue_then_in_our_hands() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let upstream = listener.local_addr().expect("bound");
        let client = TcpStream::connect(upstream).expect("it listens");
        let nginx = client.local_addr().expect("connected");
        let wanted = Wanted::Tcp { upstream, nginx };
        // Without the right to change namespaces there is nothing to see.
        let Some(Seen::Queued(queue)) = seen(wanted.clone()) else { return };
        let own = std::process::id();
        assert_eq!((queue.at.as_str(), queue.queued), (upstream.to_string().as_str(), Some(1)));
        assert_eq!(queue.owner().expect("we listen").name.pid, own);
        let held = listener.accept().expect("a connection");
        let Some(Seen::Held { by, unread, .. }) = seen(wanted.clone()) else { panic!("we hold it") };
        assert_eq!((by[0].name.pid, &by[0].standing, unread), (own, &Standing::Going, Some(0)));
        let Some(Seen::Queued(queue)) = seen(Wanted::Listener(Address::Tcp(upstream))) else { panic!("we listen") };
        assert_eq!(queue.accepting()[0].connections, 1);
        drop(held);
        assert_eq!(seen(wanted), None);
    }

    #[test]
    fn workers_accept_and_masters_answer() {
        let seat = |pid: u32, parent: u32| Seat {
            name: Name { pid, comm: "app".into() },
            parent,
            master: None,
            standing: Standing::Going,
            connections: 0,
        };
        let queue = |open: Vec<Seat>| Queue {
            at: String::new(),
            limit: None,
            queued: None,
            full: false,
            by_address: false,
            open,
        };
        let said = |open: Vec<Seat>| {
            let queue = queue(open);
            let pids = queue.accepting().iter().map(|seat| seat.name.pid).collect::<Vec<_>>();
            (queue.owner().map(|seat| seat.name.pid), pids)
        };
        assert_eq!(said(vec![seat(10, 1), seat(11, 10), seat(12, 10)]), (Some(10), vec![11, 12]));
        assert_eq!(said(vec![seat(10, 1)]), (Some(10), vec![10]));
        assert_eq!(said(vec![seat(1, 0), seat(10, 1)]), (Some(10), vec![10]), "systemd only made it");
        assert_eq!(said(vec![]), (None, vec![]));
    }
}
