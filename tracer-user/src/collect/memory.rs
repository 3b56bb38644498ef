//! nginx's memory, read from outside: what the kernel programs could not read in their time.

use std::{fs::File, os::unix::fs::FileExt as _};

/// NGX_HTTP_MODULE, the first word of a request (src/http/ngx_http_config.h).
const HTTP_SIGNATURE: u32 = 0x5054_5448;

/// When a main request began, and where that stands.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// Address of the main request.
    pub request: u64,
    pub ms: u64,
    /// Of `start_sec` in it; `start_msec` follows.
    pub offset: u32,
}

/// Number of upstream attempts of the request at this address; None: there is another one by now, or it cannot be read.
/// A request that has ended keeps its place until the next one takes it, and what it says is still true.
pub fn attempts(pid: u32, request: u64, start: Start) -> Option<u32> {
    let memory = File::open(format!("/proc/{pid}/mem")).ok()?;
    let word = |address: u64| {
        let mut bytes = [0; 8];
        memory.read_exact_at(&mut bytes, address).ok()?;
        Some(u64::from_ne_bytes(bytes))
    };
    // The first word of a request is 32 bits wide.
    if word(request)? as u32 != HTTP_SIGNATURE {
        return None;
    }
    let began = start.request.checked_add(u64::from(start.offset))?;
    if word(began)?.checked_mul(1000)?.checked_add(word(began.checked_add(8)?)?)? != start.ms {
        return None;
    }
    // request->upstream_states->nelts, at the same place from 1.18 to 1.30
    let states = word(request.checked_add(80)?)?;
    u32::try_from(word(states.checked_add(8)?)?).ok().filter(|attempts| *attempts <= 65_536)
}

/// The NUL-terminated string at this address, cut at 255 bytes; None: it cannot be read. Unlike the kernel programs this
/// can wait for a page to be brought in.
pub fn string(pid: u32, address: u64) -> Option<String> {
    let memory = File::open(format!("/proc/{pid}/mem")).ok()?;
    let mut bytes = [0; 255];
    // A short read ends at a hole behind the string.
    let length = memory.read_at(&mut bytes, address).ok()?;
    let text = bytes.get(..length)?.split(|byte| *byte == 0).next()?;
    Some(String::from_utf8_lossy(text).into_owned()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::{Start, attempts, string};

    #[test]
    fn our_own_strings() {
        let text = c"a string of our own";
        assert_eq!(string(std::process::id(), text.as_ptr() as u64).as_deref(), Some("a string of our own"));
        assert_eq!(string(std::process::id(), 8), None);
        assert_eq!(string(u32::MAX, text.as_ptr() as u64), None);
    }

    #[test]
    fn nonsense_is_none() {
        let own = std::process::id();
        let start = Start { request: 4096, ms: 1, offset: 8 };
        assert_eq!(attempts(own, 0, start), None);
        assert_eq!(attempts(own, u64::MAX, start), None);
        assert_eq!(attempts(u32::MAX, 4096, start), None);
    }
}
