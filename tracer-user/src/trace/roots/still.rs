//! Since when a process stands still, and what by: stopped, frozen with its control group, or held by a debugger.

use super::text;
use crate::{
    context::{ends::Seat, standing::Standing},
    model::{
        host::{Name, Stop},
        verdict::Failure,
    },
    trace::host::Host,
};

/// As what a debugger's stop is remembered.
const SIGTRAP: u32 = 5;

/// What is known of processes that stand still. What is not known was before the tracing, where every one is seen.
pub(super) trait Stops {
    /// The signal that a process was told to stand still by.
    fn signal(&self, pid: u32) -> Option<Stop>;
    fn sees_signals(&self) -> bool;
    /// When a control group was frozen.
    fn frozen_ns(&self, group: u64) -> Option<u64>;
    fn sees_freezes(&self) -> bool;
}

impl Stops for Host {
    fn signal(&self, pid: u32) -> Option<Stop> {
        self.peers.stop(pid)
    }

    fn sees_signals(&self) -> bool {
        self.sees_stops
    }

    fn frozen_ns(&self, group: u64) -> Option<u64> {
        self.frozen_ns(group)
    }

    fn sees_freezes(&self) -> bool {
        self.sees_freezes
    }
}

/// A process that stood still when it failed: since when and by what; what lets it go on.
pub(super) struct Still {
    pub(super) text: String,
    pub(super) remedy: String,
}

/// None: it did not, or that is not known.
pub(super) fn still(failure: &Failure, seat: &Seat, stops: &impl Stops) -> Option<Still> {
    let Name { pid, .. } = seat.name;
    let before = |stop: &Stop| stop.time_ns <= failure.time_ns;
    let since = |stop: &Stop| text::duration(failure.time_ns.saturating_sub(stop.time_ns));
    match &seat.standing {
        Standing::Going => None,
        Standing::Frozen(group) => {
            let path = &group.path;
            let Some(id) = group.id else {
                return Some(Still {
                    text: format!("stands still: its control group {path} is frozen, since when is not seen"),
                    remedy: format!("thaw {path}: what froze it, or THAWED into its freezer.state"),
                });
            };
            let since = match stops.frozen_ns(id) {
                Some(frozen_ns) if frozen_ns > failure.time_ns => return None,
                Some(frozen_ns) => format!("{} before", text::duration(failure.time_ns - frozen_ns)),
                None if stops.sees_freezes() => "before the tracing began".to_owned(),
                None => return None,
            };
            Some(Still {
                text: format!("stands still: its control group {path} was frozen {since}"),
                remedy: format!(
                    "thaw {path}: what froze it (docker unpause, systemctl thaw), or 0 into its cgroup.freeze"
                ),
            })
        }
        Standing::Stopped => {
            let text = match stops.signal(pid) {
                // It was stopped after the failure.
                Some(stop) if !before(&stop) => return None,
                // A debugger came after whoever stopped it.
                Some(stop) if stop.signal == SIGTRAP => return None,
                Some(stop) => {
                    let by = if stop.sender.pid == pid { "itself".to_owned() } else { text::name(&stop.sender) };
                    format!("is stopped: {} from {by} {} before", text::signal(stop.signal), since(&stop))
                }
                None if stops.sees_signals() => "is stopped, since before the tracing began".to_owned(),
                None => return None,
            };
            Some(Still { text, remedy: format!("let it go on: kill -CONT {pid}") })
        }
        Standing::Traced(debugger) => {
            // A debugger that attaches without a signal may have stopped it just now.
            let stop = stops.signal(pid).filter(|stop| before(stop) && stop.sender.pid == debugger.pid)?;
            let debugger = text::name(debugger);
            Some(Still {
                text: format!("is held by the debugger {debugger}, {} before", since(&stop)),
                remedy: format!("detach {debugger} from it, or let it continue"),
            })
        }
    }
}
