//! The queue of connections that were not accepted yet was full.

use crate::{
    context::unix::{
        diag::Listener,
        look::{Asked, Look, Served},
    },
    record,
    trace::roots::{Found, program::Program, text},
};

pub(super) fn root(asked: &Asked, look: &Look) -> Option<Found> {
    let served = look.served.as_ref()?;
    let Served { listener: Listener { limit, queued, .. }, .. } = served;
    let owner = served.owner();
    let who = owner.map_or_else(|| "the process that listens there".to_owned(), text::name);
    let address = format!("unix:{}", asked.path);
    let size = match (limit, queued) {
        (Some(limit), Some(queued)) => format!(" (its limit is {limit}; {queued} wait at the time of looking)"),
        (Some(limit), None) => format!(" (its limit is {limit})"),
        _ => String::new(),
    };
    let capped = limit.is_some_and(|limit| look.somaxconn == Some(limit));
    let text = format!("the accept queue of {address} was full{size}: {who} did not accept fast enough");
    let listener = record::Listener { address, limit: *limit, queued: *queued, owner: owner.map(record::Owner::from) };
    let root = record::Root { kind: record::RootKind::AcceptQueueFull, text, process: None, listener: Some(listener) };
    let (workers, backlog) = Program::of(owner).more();
    let cap = match limit {
        Some(limit) if capped => format!(" and net.core.somaxconn, which is {limit} too,"),
        _ => String::new(),
    };
    let hint =
        format!("let {who} accept sooner ({workers}); a longer queue ({backlog}){cap} only helps against bursts");
    Some(Found { root, hint: Some(hint), evidence: None })
}

#[cfg(test)]
mod tests {
    use super::root;
    use crate::{
        context::unix::{
            diag::{Bound, Listener},
            look::Served,
            walk::End,
        },
        record::RootKind,
        trace::roots::unix::samples::{asked, look, part},
    };

    #[test]
    fn numbers_are_those_of_the_look() {
        let asked = asked("/run/a.sock");
        let mut seen = look(End::File(part("/run/a.sock", 0o140_666, 0)));
        assert!(root(&asked, &seen).is_none(), "nobody is found who listens");
        let bound = Bound::Path("/run/a.sock".into());
        let listener = Listener { inode: 1, netns: 1, bound, file: None, limit: Some(128), queued: Some(129) };
        seen.served = Some(Served { listener, holders: Vec::new(), by_name: false });
        seen.somaxconn = Some(128);
        let found = root(&asked, &seen).expect("a reason");
        assert_eq!(found.root.kind, RootKind::AcceptQueueFull);
        assert_eq!(
            found.root.text,
            "the accept queue of unix:/run/a.sock was full (its limit is 128; 129 wait at the time of looking): the process \
             that listens there did not accept fast enough"
        );
        let listener = found.root.listener.expect("a listener");
        assert_eq!(
            (listener.address.as_str(), listener.limit, listener.queued),
            ("unix:/run/a.sock", Some(128), Some(129))
        );
        assert!(found.hint.expect("a hint").contains("net.core.somaxconn, which is 128 too"));
    }
}
