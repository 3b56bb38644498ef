//! Complaints of a kind that is known and comes too often: counted, with the error pages that follow them.
//!
//! Hook: none of its own; asked by the uprobes, and by `lifecycle` at closes and connects of the same thread.
//! A request is told or counted as a whole, from its first attempt on, so that no response is both.

use core::{ffi::c_void, mem::MaybeUninit};

use aya_ebpf::{
    bindings::BPF_ANY,
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns, generated},
};
use tracer_common::{
    event::complaint::{ANSWERED, Request},
    process::Process,
    storm::{CALM, PEER_WORDS, RequestId, Spoken, StormKey, peer_id},
};

use super::{
    layout::{array, peer, request as http, start, upstream},
    request::{About, Head},
    socket::retrying_socket,
};
use crate::{
    maps::{NOTHING_SPOKEN, PROCESSES, REQUESTS, STORMS, storming},
    read,
};

/// 1: this complaint was counted, and nothing is to be told of it.
#[inline(never)]
pub(super) fn counted(about: &About, head: &Head, process: *mut Process, literal: u64, errno: u32) -> u32 {
    // What a subrequest fails with becomes of its main request in ways that are not counted, and a cache may answer.
    if process.is_null() || about.request == 0 || about.request != about.main || head[http::CACHE] != 0 {
        return 0;
    }
    let tgid = current();
    let Some(spoken) = spoken_of(about.request, tgid) else { return 0 };
    // SAFETY: live entries of the current process, which alone writes them.
    let (spoken, process) = unsafe { (&mut *spoken, &mut *process) };
    let attempts = read::user::<u64>(head[http::UPSTREAM_STATES], array::COUNT_AT) as u32;
    let start_ms = start_of(about.request, process.start_sec_offset);
    if attempts <= spoken.attempts || start_ms != spoken.start_ms {
        (spoken.start_ms, spoken.told, spoken.counted, spoken.answered) = (start_ms, 0, 0, 0);
    }
    spoken.attempts = attempts;
    let goes_on = process.counted_request == about.request;
    process.counted_request = 0;
    let storming = storming();
    if attempts != 0 && storming != CALM {
        let location = head[http::LOC_CONF];
        let peer = peer_of(head[http::UPSTREAM]);
        let key = StormKey { literal, action: about.action, location, peer, tgid, errno };
        if enough(&key, storming, spoken.told, spoken.counted) != 0 {
            if goes_on {
                retried(&spoken.counted_as);
            }
            spoken.counted += 1;
            spoken.counted_as = key;
            process.counted_request = about.request;
            process.complained_request = 0;
            process.unwritten_ns = 0;
            return 1;
        }
    }
    spoken.told += 1;
    0
}

/// 1: there have been enough of this kind to count this one. A request whose former complaints were counted goes on being
/// counted, one that was told goes on being told.
#[inline(always)]
fn enough(key: &StormKey, storming: u32, told: u32, counted: u32) -> u32 {
    let Some(storm) = STORMS.get_ptr_mut(key) else { return 0 };
    // SAFETY: a live map entry, written by this process alone.
    let storm = unsafe { &mut *storm };
    // SAFETY: no arguments, no effects.
    let enough = storm.is_enough(unsafe { bpf_ktime_get_ns() }, storming);
    if told != 0 || !(enough || counted != 0) {
        return 0;
    }
    storm.counted += 1;
    1
}

/// An error page; 1: it ends a request that was counted, and is counted with it.
#[inline(never)]
pub(super) fn answered(request: u64, status: u32, process: *mut Process) -> u32 {
    if process.is_null() {
        return 0;
    }
    // SAFETY: the live entry of the current process, which alone writes it.
    let process = unsafe { &mut *process };
    let counted = process.counted_request;
    process.counted_request = 0;
    if counted == 0 || counted != request || (status != 502 && status != 504) {
        return 0;
    }
    let id = RequestId { request, tgid: current(), reserved: 0 };
    let Some(spoken) = REQUESTS.get_ptr_mut(&id) else { return 0 };
    // SAFETY: as above.
    let spoken = unsafe { &mut *spoken };
    let states = read::user::<u64>(request, http::UPSTREAM_STATES_AT);
    if read::user::<u64>(states, array::COUNT_AT) as u32 != spoken.attempts || spoken.told != 0 {
        return 0;
    }
    let Some(storm) = STORMS.get_ptr_mut(&spoken.counted_as) else { return 0 };
    // SAFETY: as above.
    let storm = unsafe { &mut *storm };
    storm.ended += 1;
    process.complained_request = 0;
    // `error_page` may have led the request to an upstream again, and here again: it is one response.
    if spoken.answered == 0 {
        spoken.answered = 1;
        if status == 502 {
            storm.bad_gateway += 1;
        } else {
            storm.gateway_timeout += 1;
        }
        if spoken.counted == 1 {
            storm.answered_alone += 1;
        } else {
            storm.in_vain += u64::from(spoken.counted) - 1;
        }
    }
    1
}

/// Adds to an error page what of its request was only counted.
#[inline(never)]
pub(super) fn recall(slot: *mut Request, tgid: u32) -> u32 {
    if slot.is_null() || storming() == CALM {
        return 0;
    }
    // SAFETY: the caller's slot, whose fields here are written.
    let slot = unsafe { &mut *slot };
    let id = RequestId { request: slot.main, tgid, reserved: 0 };
    let Some(spoken) = REQUESTS.get_ptr(&id) else { return 0 };
    // SAFETY: a live map entry, read only.
    let spoken = unsafe { &*spoken };
    if slot.request == slot.main && spoken.start_ms == slot.start_ms && spoken.attempts == slot.attempt {
        slot.counted = spoken.counted;
        if spoken.answered != 0 {
            slot.flags |= ANSWERED;
        }
    }
    1
}

/// The current process connects: is that the next attempt of the request that was just counted?
#[inline(always)]
pub(in crate::probe) fn went_on(process: *mut Process, sk: u64) {
    // SAFETY: the live entry of the current process, which alone writes it.
    let request = unsafe { (*process).counted_request };
    if request != 0 {
        // SAFETY: as above.
        unsafe { (*process).counted_request = 0 };
        if retrying_socket(request) == sk {
            goes_on(request);
        }
    }
}

#[inline(never)]
fn goes_on(request: u64) -> u32 {
    let id = RequestId { request, tgid: current(), reserved: 0 };
    // SAFETY: a live map entry of the current process.
    REQUESTS.get_ptr(&id).map_or(0, |spoken| retried(unsafe { &(*spoken).counted_as }))
}

#[inline(always)]
fn retried(kind: &StormKey) -> u32 {
    let Some(storm) = STORMS.get_ptr_mut(kind) else { return 0 };
    // SAFETY: a live map entry, written by this process alone.
    unsafe { (*storm).retried += 1 };
    1
}

/// The current process has just counted a complaint: what it closes now is what that was about.
#[inline(never)]
pub(in crate::probe) fn just_counted(tgid: u32) -> u32 {
    if storming() == CALM {
        return 0;
    }
    // SAFETY: a live map entry, read only.
    PROCESSES.get_ptr(tgid).map_or(0, |process| u32::from(unsafe { (*process).counted_request } != 0))
}

#[inline(always)]
fn current() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}

/// The entry of a main request, new if there was none.
#[inline(never)]
fn spoken_of(request: u64, tgid: u32) -> Option<*mut Spoken> {
    let id = RequestId { request, tgid, reserved: 0 };
    if REQUESTS.get_ptr(&id).is_none() {
        let _ = REQUESTS.insert(&id, &NOTHING_SPOKEN, u64::from(BPF_ANY));
    }
    REQUESTS.get_ptr_mut(&id)
}

/// When the request began, ms; 0: where that is has not been found yet.
#[inline(always)]
fn start_of(request: u64, offset: u32) -> u64 {
    if offset == 0 {
        return 0;
    }
    let mut words = MaybeUninit::<[u64; 2]>::uninit();
    let words = read::words(&mut words, request, u64::from(offset));
    words[start::SEC] * 1000 + words[start::MSEC]
}

/// Which peer, by the whole of its name; 0: it has none, or too long a one, and no kind is named so.
#[inline(never)]
fn peer_of(upstream: u64) -> u64 {
    let name: u64 = read::user(upstream, upstream::PEER_AT + 8 * peer::NAME as u64);
    let mut words = MaybeUninit::uninit();
    let [length, data] = *read::words(&mut words, name, 0);
    let mut bytes = [0; PEER_WORDS];
    let most = size_of::<[u64; PEER_WORDS]>() as u64;
    if length > most {
        return 0;
    }
    let length = if length < most { length } else { most };
    // SAFETY: no more is read than there is room for; the helper checks the source.
    unsafe { generated::bpf_probe_read_user((&raw mut bytes).cast(), length as u32, data as *const c_void) };
    peer_id(length, &bytes)
}
