//! What nginx knows of a request.

use aya_ebpf::helpers::bpf_probe_read_user_buf;
use tracer_common::{
    event::complaint::{
        CACHEABLE, CACHED, CACHED_KNOWN, CLIENT_LEN, HOST_LEN, HTTP, LINE_KNOWN, LINE_LEN, NAME_LEN, Request,
        STATES_KNOWN, STREAM,
    },
    process::Process,
};

use super::{
    layout::{STREAM_SIGNATURE, connection, header, log, log_context, peer, request, start, state, upstream},
    text::ngx_str,
};
use crate::{
    maps::{SCRATCH, SCRATCH_WORDS},
    read,
};

/// Writes what nginx knows of the request.
///
/// Flags go to memory, which the verifier does not track: returned, each combination of them would be a path of its own
/// through the rest of the program.
#[inline(never)]
pub(super) fn describe(slot: *mut Request, request: u64, log: u64, process: *mut Process) -> u32 {
    if slot.is_null() {
        return 0;
    }
    let data = read::user::<u64>(log, log::DATA);
    let mut flags = 0;
    let mut main = 0;
    if request != 0 {
        flags |= HTTP;
        main = read::user::<u64>(data, log_context::REQUEST);
    } else if read::user::<u32>(data, 0) == STREAM_SIGNATURE {
        flags |= STREAM;
    }
    let upstream = read::user::<u64>(request, request::UPSTREAM);
    let client = read::user::<u64>(request, request::CONNECTION);
    let mut attempt = 0;
    let mut state_status = 0;
    let mut header_time = u64::MAX;
    if let Some((count, last)) = attempts(request) {
        flags |= STATES_KNOWN;
        attempt = count;
        state_status = read::user::<u64>(last, state::STATUS) as u32;
        header_time = read::user::<u64>(last, state::HEADER_TIME);
    }
    let peer = upstream + upstream::PEER;
    if upstream != 0 && log != 0 && read::user::<u64>(peer, peer::LOG) == log {
        let before = read::user::<u32>(peer, peer::BITS);
        let since = read::user::<u32>(peer, peer::BITS_SINCE_1_29_6);
        let bits = if peer::are_bits(before) { before } else { since };
        if peer::are_bits(bits) {
            flags |= CACHED_KNOWN;
        }
        if bits & peer::CACHED_BIT != 0 {
            flags |= CACHED;
        }
    }
    if read::user::<u64>(request, request::CACHE) != 0 {
        flags |= CACHEABLE;
    }
    let start = if main == 0 { 0 } else { start_of_request(main, process) };
    let mut start_ms = 0;
    if start != 0 {
        flags |= LINE_KNOWN;
        let seconds = read::user::<u64>(start, 0);
        start_ms = seconds * 1000 + read::user::<u64>(start, start::MSEC);
    }
    // SAFETY: the caller's slot; every field is written.
    unsafe {
        (&raw mut (*slot).start_ms).write(start_ms);
        (&raw mut (*slot).start_offset).write(if start == 0 { 0 } else { (start - main) as u32 });
        (&raw mut (*slot).reserved).write(0);
        let line = if start == 0 { 0 } else { start + start::REQUEST_LINE };
        ngx_str(line, (&raw mut (*slot).line).cast(), LINE_LEN);
        (&raw mut (*slot).behind_number).write(behind_number(client, read::user(log, log::CONNECTION)));
        (&raw mut (*slot).uri).write(if start == 0 { 0 } else { read::user(start, start::URI_DATA) });
        (&raw mut (*slot).server_conf).write(read::user(request, request::SRV_CONF));
        (&raw mut (*slot).location_conf).write(read::user(request, request::LOC_CONF));
        ngx_str(host(main), (&raw mut (*slot).host).cast(), HOST_LEN);
        (&raw mut (*slot).request).write(request);
        (&raw mut (*slot).main).write(main);
        (&raw mut (*slot).connection).write(read::user(log, log::CONNECTION));
        (&raw mut (*slot).upstream).write(upstream);
        (&raw mut (*slot).state_header_time).write(header_time);
        (&raw mut (*slot).state_status).write(state_status);
        (&raw mut (*slot).attempt).write(attempt);
        (&raw mut (*slot).log_level).write(read::user::<u64>(log, log::LEVEL) as u32);
        let name = if upstream == 0 { 0 } else { read::user::<u64>(peer, peer::NAME) };
        ngx_str(name, (&raw mut (*slot).peer).cast(), NAME_LEN);
        let address = if client == 0 { 0 } else { client + connection::ADDR_TEXT };
        ngx_str(address, (&raw mut (*slot).client).cast(), CLIENT_LEN);
        (&raw mut (*slot).flags).write(flags);
    }
    0
}

/// The words behind `number` in the client's connection, which the log knows too: which of the connection's requests it is.
#[inline(always)]
fn behind_number(client: u64, number: u64) -> [u64; 2] {
    for place in connection::NUMBER {
        if client != 0 && number != 0 && read::user::<u64>(client, place) == number {
            return [read::user(client, place + 8), read::user(client, place + 16)];
        }
    }
    [0; 2]
}

/// Address of the value (an `ngx_str_t`) of the request's Host header; 0: there is none.
#[inline(always)]
fn host(main: u64) -> u64 {
    let header = if main == 0 { 0 } else { read::user::<u64>(main, request::HOST) };
    let name = read::user::<u32>(read::user(header, header::LOWCASE_KEY), 0);
    if read::user::<u64>(header, header::KEY_LENGTH) == 4 && name == u32::from_le_bytes(*b"host") {
        header + header::VALUE
    } else {
        0
    }
}

/// Number of attempts and the address of the last one's state, from `r->upstream_states` (an `ngx_array_t`).
#[inline(always)]
fn attempts(request: u64) -> Option<(u32, u64)> {
    let array = read::user::<u64>(request, request::UPSTREAM_STATES);
    let elements = read::user::<u64>(array, 0);
    let count = read::user::<u64>(array, 8);
    let size = read::user::<u64>(array, 16);
    let capacity = read::user::<u64>(array, 24);
    if count == 0 || count > capacity || capacity > 65_536 || !state::SIZE.contains(&size) {
        return None;
    }
    Some((count as u32, elements + (count - 1) * size))
}

/// Address of the main request's `start_sec`; 0 when it cannot be told.
///
/// What precedes it in `ngx_http_request_t` has another size in every version, so it is found by what is there, once
/// per process: `start_sec, start_msec, method, http_version, request_line` follow each other since nginx 0.x.
#[inline(always)]
fn start_of_request(main: u64, process: *mut Process) -> u64 {
    // SAFETY: the live map entry of the current process.
    let mut offset = unsafe { (*process).start_sec_offset };
    if offset == 0 {
        offset = find_start(main);
        // SAFETY: as above; written only in the process's own context.
        unsafe { (*process).start_sec_offset = offset };
    }
    if offset == 0 {
        return 0;
    }
    let start = main + u64::from(offset);
    let plausible = is_version(read::user(start, start::HTTP_VERSION)) && read::user::<u64>(start, start::MSEC) < 1000;
    if plausible { start } else { 0 }
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
        if is_start(words, index) != 0 {
            return index as u32 * 8;
        }
    }
    0
}

/// The words from `index` on look like `start_sec`, `start_msec`, `method`, `http_version`, `request_line.len`.
///
/// Not inlined: the verifier then forgets each word before it looks at the next.
#[inline(never)]
fn is_start(words: &[u64; SCRATCH_WORDS], index: usize) -> u32 {
    if index > SCRATCH_WORDS - START_WORDS {
        return 0;
    }
    let [second, millisecond, method, version, length] =
        [words[index], words[index + 1], words[index + 2], words[index + 3], words[index + 4]];
    // One bit of NGX_HTTP_GET … is set; times are past 2001, lines shorter than a megabyte.
    if !is_version(version) || method == 0 || method >= 1 << 20 || method & (method - 1) != 0 {
        return 0;
    }
    u32::from(millisecond < 1000 && length < 1 << 20 && second > 1_000_000_000 && second < 10_000_000_000)
}

/// `start_sec` lies behind `headers_in` and `headers_out`.
const FIRST_START_WORD: usize = 88;

/// Words that are looked at together.
const START_WORDS: usize = 5;

/// NGX_HTTP_VERSION_9 … _30, src/http/ngx_http_request.h.
#[inline(always)]
fn is_version(version: u64) -> bool {
    matches!(version, 9 | 1000 | 1001 | 2000 | 3000)
}
