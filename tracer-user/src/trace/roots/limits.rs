//! Limits of the nginx worker itself: descriptors, connections.

use super::Found;
use crate::{context::limits::Descriptors, model::verdict::Failure, record};

/// `socket() failed (24`: the worker's own limit, or the host's.
pub(super) fn descriptors(failure: &Failure, seen: Descriptors) -> Option<Found> {
    const EMFILE: i32 = 24;
    let Descriptors { open, limit } = seen;
    if failure.errno != Some(EMFILE) {
        return None;
    }
    let root = record::Root {
        kind: record::RootKind::FdLimit,
        text: format!("worker {} may have {limit} descriptors open, and has {open}", failure.worker),
        process: None,
        listener: None,
    };
    let hint =
        format!("raise worker_rlimit_nofile above {limit} (and LimitNOFILE of its unit), or find what keeps them");
    Some(Found { root, hint: Some(hint), evidence: None })
}

/// `N worker_connections are not enough`: nginx says the number itself.
pub(super) fn connections(failure: &Failure) -> Option<Found> {
    let message = &failure.word.as_ref()?.message;
    let (limit, _) = message.split_once(" worker_connections are not enough")?;
    let limit: u32 = limit.trim().parse().ok()?;
    let root = record::Root {
        kind: record::RootKind::Limits,
        text: format!(
            "all {limit} worker_connections of worker {} are in use: a proxied request takes two",
            failure.worker
        ),
        process: None,
        listener: None,
    };
    let hint = format!("raise worker_connections above {limit}, and worker_rlimit_nofile with it");
    Some(Found { root, hint: Some(hint), evidence: None })
}

#[cfg(test)]
mod tests {
    use super::{connections, descriptors};
    use crate::{
        context::limits::Descriptors,
        model::{cause::Cause, verdict::Word},
        trace::roots::samples::failure,
    };

    #[test]
    fn only_the_own_limit_is_named() {
        let seen = Descriptors { open: 1024, limit: 1024 };
        let mut failure = failure(Cause::FdsExhausted);
        failure.errno = Some(23);
        assert!(descriptors(&failure, seen).is_none(), "ENFILE is the host's");
        failure.errno = Some(24);
        let text = descriptors(&failure, seen).expect("a reason").root.text;
        assert_eq!(text, "worker 1 may have 1024 descriptors open, and has 1024");
    }

    #[test]
    fn nginx_says_how_many_connections() {
        let mut failure = failure(Cause::WorkerConnections);
        assert!(connections(&failure).is_none());
        let message = "512 worker_connections are not enough while connecting to upstream".to_owned();
        let (client, request, host) = (None, None, None);
        failure.word = Some(Word { level: 4, connection: 1, message, client, request, host });
        assert!(connections(&failure).expect("a reason").root.text.starts_with("all 512 worker_connections"));
    }
}
