//! Limits of the nginx worker itself: descriptors, connections.

use super::Found;
use crate::{context::limits::Descriptors, model::verdict::Failure, record};

/// `socket() failed (24`: the worker's own limit; `(23`: the host's.
pub(super) fn descriptors(
    failure: &Failure,
    own: impl FnOnce() -> Option<Descriptors>,
    host: impl FnOnce() -> Option<Descriptors>,
) -> Option<Found> {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    let (text, hint) = match failure.errno? {
        EMFILE => {
            let Descriptors { open, limit } = own()?;
            (
                format!("worker {} may have {limit} descriptors open, and has {open}", failure.worker),
                format!(
                    "raise worker_rlimit_nofile above {limit} (and LimitNOFILE of its unit), or find what keeps them"
                ),
            )
        }
        ENFILE => {
            let Descriptors { open, limit } = host()?;
            (
                format!("this host may have {limit} files open in all, and has {open}"),
                format!("raise fs.file-max above {limit}, or find the process that keeps so many open"),
            )
        }
        _ => return None,
    };
    let root = record::Root { kind: record::RootKind::FdLimit, text, process: None, listener: None };
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
        model::{
            cause::Cause,
            verdict::{Failure, Word},
        },
        trace::roots::samples::failure,
    };

    #[test]
    fn the_limit_that_was_met_is_named() {
        let own = || Some(Descriptors { open: 1024, limit: 1024 });
        let host = || Some(Descriptors { open: 9000, limit: 9000 });
        let text = |errno| {
            let failure = Failure { errno, ..failure(Cause::FdsExhausted) };
            descriptors(&failure, own, host).map(|found| found.root.text)
        };
        assert_eq!(text(Some(24)).as_deref(), Some("worker 1 may have 1024 descriptors open, and has 1024"));
        assert_eq!(text(Some(23)).as_deref(), Some("this host may have 9000 files open in all, and has 9000"));
        assert_eq!((text(Some(13)), text(None)), (None, None));
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
