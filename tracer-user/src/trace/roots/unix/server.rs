//! Who ended a connection over a unix socket, where no hook sees its close: whoever listens there, as far as that is known.

use super::super::{Found, ended, of_close, text};
use crate::{
    collect::unix::NOTICED_NS,
    context::unix::holders::is_manager,
    model::{address::Address, cause::Cause, verdict::Failure},
    trace::host::Host,
};

/// The process that listened on its unix socket ended just then: what waits in the queue is reset with it (unix_release_sock(),
/// net/unix/af_unix.c), and nothing else tells of that where no hook sees a close.
pub(in crate::trace::roots) fn ended_with_queue(failure: &Failure, host: &Host) -> Option<Found> {
    let Some(Address::Unix(path)) = &failure.upstream else { return None };
    let times_ns = (failure.time_ns.saturating_sub(ended::LEAVING_NS / 10), failure.time_ns);
    let (actor, ended_ns) = host.sockets.places.ended_within(path, times_ns)?.clone();
    of_close(failure, actor, ended_ns, host).map(|found| Found { evidence: None, ..found })
}

/// How long before nginx notices the close may have been: at once where it waits for the answer, and later where it is busy with a
/// slow client in the middle of one.
const fn noticed_ns(cause: Cause) -> u64 {
    match cause {
        Cause::ClosedMidResponse => 60_000_000_000,
        _ => NOTICED_NS,
    }
}

/// A process that lives closed it: it had the connection from the one that called listen(2), which the socket itself remembers, and
/// none of those that have the listener has ended lately.
pub(in crate::trace::roots) fn closed(failure: &Failure, host: &Host) -> Option<Found> {
    let Some(at @ Address::Unix(path)) = &failure.upstream else { return None };
    let by_fin = [Cause::ClosedBeforeResponse, Cause::ClosedMidResponse].contains(&failure.cause);
    if !by_fin || failure.root.is_some() || host.sees_unix_closes {
        return None;
    }
    let place = host.sockets.places.only(path)?;
    let listener = failure.connection.other_end.as_ref()?.listener?;
    // None of its processes has ended since the close, and it has been looked at for so long.
    let calm_ns = failure.time_ns.saturating_sub(noticed_ns(failure.cause));
    // A service manager lets others have the socket that it made, and they are not all known.
    if is_manager(&place.owner)
        || !place.is_held_by(listener)
        || place.first_ns > calm_ns
        || place.lost_one_since(calm_ns)
    {
        return None;
    }
    let fate = host.peers.fate(place.owner.pid);
    // Told to end, it may be about to: the program that sees exits may have been skipped.
    if ended::told(&place.owner, failure.time_ns, fate.as_ref()).is_some() {
        return None;
    }
    let seen = text::seen_before(failure.time_ns, place.seen_ns);
    Some(ended::by_server(failure, at, &seen, &place.owner, fate.as_ref()))
}
