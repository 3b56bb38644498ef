//! What nginx knows of a request.

use core::mem::MaybeUninit;

use aya_ebpf::helpers::bpf_probe_read_user_buf;
use tracer_common::{
    event::complaint::{
        CACHEABLE, CACHED, CACHED_KNOWN, CLIENT_LEN, HOST_LEN, HTTP, LINE_KNOWN, LINE_LEN, NAME_LEN, Request,
        STATES_KNOWN, STREAM,
    },
    process::Process,
};

use super::{
    layout::{STREAM_SIGNATURE, array, connection, header, peer, request as http, start, state, upstream},
    text::{copy, ngx_str},
};
use crate::{
    maps::{SCRATCH, SCRATCH_WORDS},
    read,
};

/// The beginning of an `ngx_http_request_t`.
pub(super) type Head = [u64; http::WORDS];

/// Whose request, and whose log.
#[derive(Clone, Copy)]
pub(super) struct About {
    /// 0: no HTTP request.
    pub(super) request: u64,
    pub(super) main: u64,
    pub(super) log: u64,
    /// `log->data`.
    pub(super) data: u64,
    /// `log->connection`.
    pub(super) connection: u64,
    /// `log->action`.
    pub(super) action: u64,
    pub(super) log_level: u32,
}

/// Writes what nginx knows of the request; the upstream connection (`u->peer.connection`), or 0.
///
/// Flags go to memory, which the verifier does not track: returned, each combination of them would be a path of its own
/// through the rest of the program.
#[inline(never)]
pub(super) fn describe(slot: *mut Request, about: &About, head: &Head, process: *mut Process) -> u64 {
    if slot.is_null() {
        return 0;
    }
    let mut flags = 0;
    if about.request != 0 {
        flags |= HTTP;
    } else if read::user::<u32>(about.data, 0) == STREAM_SIGNATURE {
        flags |= STREAM;
    }
    if head[http::CACHE] != 0 {
        flags |= CACHEABLE;
    }
    let upstream = head[http::UPSTREAM];
    // SAFETY: the caller's slot; every field is written, here and by the five calls.
    unsafe {
        (&raw mut (*slot).flags).write(flags);
        (&raw mut (*slot).counted).write(0);
        (&raw mut (*slot).server_conf).write(head[http::SRV_CONF]);
        (&raw mut (*slot).location_conf).write(head[http::LOC_CONF]);
        (&raw mut (*slot).request).write(about.request);
        (&raw mut (*slot).main).write(about.main);
        (&raw mut (*slot).connection).write(about.connection);
        (&raw mut (*slot).upstream).write(upstream);
        (&raw mut (*slot).log_level).write(about.log_level);
    }
    host(slot, about.main);
    attempts(slot, head[http::UPSTREAM_STATES]);
    start_of_request(slot, about.main, process);
    client(slot, head[http::CONNECTION], about.connection);
    peer_of(slot, upstream, about.log)
}

/// The client's address, and the words behind `number` in its connection, which the log knows too: which of the
/// connection's requests it is.
#[inline(never)]
fn client(slot: *mut Request, client: u64, number: u64) -> u32 {
    if slot.is_null() {
        return 0;
    }
    let mut words = MaybeUninit::<[u64; connection::NUMBERS + 2]>::uninit();
    let words = read::words(&mut words, client, connection::NUMBER_AT);
    let mut behind = [0; 2];
    for place in 0..connection::NUMBERS {
        if number != 0 && words[place] == number && behind[0] == 0 {
            behind = [words[place + 1], words[place + 2]];
        }
    }
    // SAFETY: the caller's slot.
    unsafe {
        (&raw mut (*slot).behind_number).write(behind);
        ngx_str(client + connection::ADDR_TEXT_AT, (&raw mut (*slot).client).cast(), CLIENT_LEN);
    }
    0
}

/// The peer's name, whether nginx took it from its cache, and what it sent there; gives the peer's connection.
#[inline(never)]
fn peer_of(slot: *mut Request, upstream: u64, log: u64) -> u64 {
    if slot.is_null() {
        return 0;
    }
    let mut room = MaybeUninit::<[u64; peer::WORDS]>::uninit();
    let words = read::words(&mut room, upstream, upstream::PEER_AT + peer::LOG_AT);
    if log != 0 && words[0] == log {
        let (before, since) = (words[peer::BITS] as u32, words[peer::BITS_SINCE_1_29_6] as u32);
        let bits = if peer::are_bits(before) { before } else { since };
        let mut flags = 0;
        if peer::are_bits(bits) {
            flags |= CACHED_KNOWN;
        }
        if bits & peer::CACHED_BIT != 0 {
            flags |= CACHED;
        }
        // SAFETY: the caller's slot.
        unsafe { (*slot).flags |= flags };
    }
    let words = read::words(&mut room, upstream, upstream::PEER_AT);
    // SAFETY: as above.
    unsafe {
        ngx_str(words[peer::NAME], (&raw mut (*slot).peer).cast(), NAME_LEN);
        let connected = words[peer::CONNECTION];
        (&raw mut (*slot).sent).write(if connected == 0 { 0 } else { read::user(connected, connection::SENT_AT) });
    }
    words[peer::CONNECTION]
}

/// The value of the main request's Host header, an `ngx_table_elt_t`.
#[inline(never)]
fn host(slot: *mut Request, main: u64) -> u32 {
    if slot.is_null() {
        return 0;
    }
    let header: u64 = if main == 0 { 0 } else { read::user(main, http::HOST_AT) };
    let mut words = MaybeUninit::<[u64; header::WORDS]>::uninit();
    let words = read::words(&mut words, header, 0);
    let name = read::user::<u32>(words[header::LOWCASE_KEY], 0);
    let is_host = words[header::KEY_LENGTH] == 4 && name == u32::from_le_bytes(*b"host");
    let length = if is_host { words[header::VALUE] } else { 0 };
    // SAFETY: the caller's slot.
    unsafe { copy(words[header::VALUE + 1], length, (&raw mut (*slot).host).cast(), HOST_LEN as u64 - 1) }
}

/// The number of attempts and the last one's state, from `r->upstream_states` (an `ngx_array_t`).
#[inline(never)]
fn attempts(slot: *mut Request, states: u64) -> u32 {
    if slot.is_null() {
        return 0;
    }
    let mut array = MaybeUninit::<[u64; array::WORDS]>::uninit();
    let [elements, count, size, capacity] = *read::words(&mut array, states, 0);
    let known = count != 0 && count <= capacity && capacity <= 65_536 && state::SIZE.contains(&size);
    // Without one nothing is read, which is zeroes.
    let last_at = if known { elements + (count - 1) * size } else { 0 };
    let mut last = MaybeUninit::<[u64; state::WORDS]>::uninit();
    let last = read::words(&mut last, last_at, 0);
    if !known {
        last[state::HEADER_TIME] = u64::MAX;
    }
    // SAFETY: the caller's slot.
    unsafe {
        (&raw mut (*slot).state_header_time).write(last[state::HEADER_TIME]);
        (&raw mut (*slot).state_received).write(last[state::BYTES_RECEIVED]);
        (&raw mut (*slot).state_status).write(last[state::STATUS] as u32);
        (&raw mut (*slot).attempt).write(if known { count as u32 } else { 0 });
        if known {
            (*slot).flags |= STATES_KNOWN;
        }
    }
    0
}

/// The main request's `start_sec` and what follows it; nothing when it cannot be told.
///
/// What precedes it in `ngx_http_request_t` has another size in every version, so it is found by what is there, once
/// per process: `start_sec, start_msec, method, http_version, request_line` follow each other since nginx 0.x.
#[inline(never)]
fn start_of_request(slot: *mut Request, main: u64, process: *mut Process) -> u32 {
    if slot.is_null() || process.is_null() {
        return 0;
    }
    let mut offset = 0;
    if main != 0 {
        // SAFETY: the live map entry of the current process.
        offset = unsafe { (*process).start_sec_offset };
        if offset == 0 {
            offset = find_start(main);
            // SAFETY: as above; written only in the process's own context.
            unsafe { (*process).start_sec_offset = offset };
        }
    }
    let mut room = MaybeUninit::<[u64; start::WORDS]>::uninit();
    let words = read::words(&mut room, main, u64::from(offset));
    let known = not_version(words[start::HTTP_VERSION]) == 0 && words[start::MSEC] < 1000;
    if !known {
        // Nothing is read there, which is zeroes.
        read::words_again(words, 0, 0);
    }
    let [length, data] = [words[start::REQUEST_LINE], words[start::REQUEST_LINE + 1]];
    // SAFETY: the caller's slot.
    unsafe {
        (&raw mut (*slot).start_ms).write(words[start::SEC] * 1000 + words[start::MSEC]);
        (&raw mut (*slot).start_offset).write(if known { offset } else { 0 });
        (&raw mut (*slot).uri).write(words[start::URI_DATA]);
        copy(data, length, (&raw mut (*slot).line).cast(), LINE_LEN as u64 - 1);
        if known {
            (*slot).flags |= LINE_KNOWN;
        }
    }
    0
}

/// Offset of `start_sec` in the request; 0: not found.
#[inline(never)]
fn find_start(main: u64) -> u32 {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: this CPU's entry. A preempting worker may overwrite it: with a request of the same layout, or another
    // nginx's, whose offset then fails the check at its use.
    let words = unsafe { &mut *scratch };
    // SAFETY: the helper checks the address and fails rather than faults; the slice is the entry's bytes.
    let read = unsafe {
        let bytes = core::slice::from_raw_parts_mut(words.as_mut_ptr().cast::<u8>(), SCRATCH_WORDS * 8);
        bpf_probe_read_user_buf(main as *const u8, bytes)
    };
    if read.is_err() {
        return 0;
    }
    for index in FIRST_START_WORD..SCRATCH_WORDS - START_WORDS {
        if misfit(words, index) == 0 {
            return index as u32 * 8;
        }
    }
    0
}

/// 0: the words from `index` on look like `start_sec`, `start_msec`, `method`, `http_version`, `request_line.len`.
///
/// Without a branch: the verifier walks each way through each of the places. Not inlined: it then forgets each word before it
/// looks at the next.
#[inline(never)]
fn misfit(words: &[u64; SCRATCH_WORDS], index: usize) -> u64 {
    if index > SCRATCH_WORDS - START_WORDS {
        return 1;
    }
    let [second, millisecond, method, version, length] =
        [words[index], words[index + 1], words[index + 2], words[index + 3], words[index + 4]];
    // Of 1000 and more the offset fails where it is used. One bit of NGX_HTTP_GET … is set.
    let method = (method.wrapping_sub(1) >> 20) | (method & method.wrapping_sub(1));
    // Times are from 2004 to 2276, lines shorter than a megabyte.
    not_version(version) | (millisecond >> 10) | method | ((second >> 30).wrapping_sub(1) >> 3) | (length >> 20)
}

/// `start_sec` lies behind `headers_in` and `headers_out`.
const FIRST_START_WORD: usize = 88;

/// Words that are looked at together.
const START_WORDS: usize = 5;

/// 0: one of NGX_HTTP_VERSION_9 … _30, src/http/ngx_http_request.h.
#[inline(always)]
fn not_version(version: u64) -> u64 {
    let mut product: u64 = 1;
    for known in [9, 1000, 1001, 2000, 3000] {
        product = product.wrapping_mul(version.wrapping_sub(known));
    }
    product
}
