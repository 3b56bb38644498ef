//! Had nginx read all of a response?

use tracer_common::event::closed::{RESPONSE_COMPLETE, RESPONSE_CUT, RESPONSE_UNKNOWN};

use super::layout::{HTTP_SIGNATURE, pipe, request as http, upstream};
use crate::{maps::PROCESSES, read};

/// Had nginx read all of the response of the request that was just complained about? Asked while it closes the upstream
/// connection. nginx logs a reset that it meets after the last byte as well; only its pipe then knows that all was read
/// (ngx_event_pipe_read_upstream(), src/event/ngx_event_pipe.c, reads once more before it parses what it has).
#[inline(never)]
pub(in crate::probe) fn response_read(tgid: u32) -> u32 {
    let Some(process) = PROCESSES.get_ptr(tgid) else { return RESPONSE_UNKNOWN };
    // SAFETY: a live map entry.
    let request = unsafe { (*process).complained_request };
    if request == 0 || read::user::<u32>(request, 0) != HTTP_SIGNATURE {
        return RESPONSE_UNKNOWN;
    }
    let upstream = read::user::<u64>(request, http::UPSTREAM_AT);
    let connection = read::user::<u64>(upstream, upstream::PEER_AT);
    let client = read::user::<u64>(request, http::CONNECTION_AT);
    let mut pipe = 0;
    for place in upstream::PIPE_AT {
        let candidate = read::user::<u64>(upstream, place);
        // The pipe must lie between this upstream connection and this client.
        if read::user::<u64>(candidate, pipe::UPSTREAM_AT) == connection
            && read::user::<u64>(candidate, pipe::DOWNSTREAM_AT) == client
        {
            pipe = candidate;
        }
    }
    if connection == 0 || client == 0 || pipe == 0 {
        return RESPONSE_UNKNOWN;
    }
    // Three pointers more with threads (and --with-compat): a pointer, or none, where else the flags are.
    let without_threads = read::user::<u64>(pipe, pipe::FLAGS_WITHOUT_THREADS_AT) & 0xffff_ffff;
    let with_threads = read::user::<u64>(pipe, pipe::FLAGS_WITH_THREADS_AT) & 0xffff_ffff;
    let flags = if without_threads != 0 && without_threads < 1 << 12 { without_threads } else { with_threads };
    if flags == 0 || flags >= 1 << 12 {
        return RESPONSE_UNKNOWN;
    }
    if flags & pipe::UPSTREAM_DONE == 0 { RESPONSE_CUT } else { RESPONSE_COMPLETE }
}
