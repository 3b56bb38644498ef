//! The reason behind a refused connect, where somebody listened before: who, and what became of that one.

use super::{
    Found,
    ended::{self, Close},
    proxy, remedy, text,
};
use crate::{
    context::{
        owners::{Gone, Live, Owners},
        process::same_program,
    },
    model::{
        host::{Actor, Ending, Fate},
        verdict::Failure,
    },
    record,
};

/// Who went on serving after its master had ended, until it was told to end.
fn survivor(gone: &Gone, fates: &impl Fn(u32) -> Option<Fate>, owners: &Owners) -> Option<Gone> {
    let (last, closed_ns) = gone.last.as_ref()?;
    let (_, _, ago_ns) = ended::told(&last.name, *closed_ns, fates(last.name.pid).as_ref())?;
    if closed_ns - ago_ns <= gone.time_ns {
        return None;
    }
    let end = owners.end_of(last.name.pid, *closed_ns).filter(|_| last.ending == Ending::Alive);
    let ending = end.map_or(last.ending, |(actor, _)| actor.ending);
    let mut gone = gone.clone();
    gone.actor = Actor { ending, ..last.clone() };
    (gone.time_ns, gone.ended_ns) = (*closed_ns, end.map(|(_, ended_ns)| *ended_ns));
    Some(gone)
}

/// Somebody listened there before.
pub(super) fn root(
    failure: &Failure,
    nothing: &str,
    gone: &Gone,
    fates: &impl Fn(u32) -> Option<Fate>,
    owners: &Owners,
    netns: u32,
) -> Found {
    let survivor = survivor(gone, fates, owners);
    let gone = survivor.as_ref().unwrap_or(gone);
    let Gone { actor, time_ns: closed_ns, ended_ns, .. } = gone;
    // A failure told late is of before that end.
    let ended_ns = ended_ns.filter(|ended_ns| *ended_ns <= failure.time_ns);
    let lived = gone.ended_ns.is_some() && ended_ns.is_none();
    let actor = Actor { ending: if lived { Ending::Alive } else { actor.ending }, ..actor.clone() };
    let end_ns = ended_ns.unwrap_or(*closed_ns);
    let fate = fates(actor.name.pid);
    let fate = fate.as_ref();
    let who = text::name(&actor.name);
    let ago = |time_ns: u64| text::duration(failure.time_ns.saturating_sub(time_ns));
    let process = text::process(&actor, fate, end_ns);
    let stopped = format!("find out why {who} stopped listening");
    let again = || remedy::again(&actor, fates, end_ns);
    let lasted_ns = end_ns - closed_ns;
    // What another one decided after it had stopped listening is not why.
    let alive = Actor { ending: Ending::Alive, ..actor.clone() };
    let close = Close { by: &alive, time_ns: *closed_ns, then: Some((actor.ending, end_ns)) };
    let of_one_piece = ended_ns.is_none() || (lasted_ns < ended::LEAVING_NS && close.has_ended(fate));
    let (kind, what, hint) = match text::end(&actor, fate, end_ns) {
        None => {
            let what = format!("{who} listened there and stopped {} before", ago(*closed_ns));
            (record::RootKind::NotListening, what, stopped)
        }
        Some(end) if of_one_piece => {
            (ended::kind(&actor, &process), format!("{who}, the last that did, {end} {} before", ago(end_ns)), again())
        }
        // Told to end, it finished its work first; else its end has nothing to do with it.
        Some(end) => {
            let (ago, later) = (ago(*closed_ns), text::duration(lasted_ns));
            let what = format!("{who}, the last that did, stopped listening {ago} before, and {end} {later} later");
            if ended::told(&actor.name, *closed_ns, fate).is_some() {
                (ended::kind(&actor, &process), what, again())
            } else {
                (record::RootKind::NotListening, what, stopped)
            }
        }
    };
    let moved = moved(&actor, *closed_ns, owners, netns).unwrap_or_default();
    let root = record::Root { kind, text: format!("{nothing}: {what}{moved}"), process: Some(process), listener: None };
    Found { root, hint: Some(hint), evidence: None }
}

/// The same program, started anew since, on another port: where it went. Several of its kind need not be one service, and
/// docker-proxy is each time another one's.
fn moved(actor: &Actor, time_ns: u64, owners: &Owners, netns: u32) -> Option<String> {
    let of_program = |live: &Live| live.owner().is_some_and(|owner| same_program(&owner.comm, &actor.name.comm));
    let mut all = owners.in_namespace(netns).filter(|(_, live)| of_program(live));
    let (address, live) = all.next()?;
    let alone = all.next().is_none() && !proxy::is_one(&actor.name);
    let since = live.since_ns.is_some_and(|since_ns| since_ns > time_ns);
    (alone && since).then_some(format!("; {} listens on {address} since", text::name(live.owner()?)))
}
