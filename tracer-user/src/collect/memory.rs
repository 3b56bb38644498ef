//! nginx's memory, read from outside: what the kernel programs could not read in their time.

use std::{fs::File, os::unix::fs::FileExt as _};

/// NGX_HTTP_MODULE, the first word of a request (src/http/ngx_http_config.h).
const HTTP_SIGNATURE: u32 = 0x5054_5448;

/// Number of upstream attempts of the request at this address, of this client connection; None: it is another one by
/// now, or cannot be read. Offsets as in tracer-ebpf's probe/nginx.rs, stable from 1.18 to 1.30.
pub fn attempts(pid: u32, request: u64, client_connection: u64) -> Option<u32> {
    let memory = File::open(format!("/proc/{pid}/mem")).ok()?;
    let mut word = [0; 4];
    memory.read_exact_at(&mut word, request).ok()?;
    if u32::from_ne_bytes(word) != HTTP_SIGNATURE {
        return None;
    }
    let pointer = |address: u64| {
        let mut bytes = [0; 8];
        memory.read_exact_at(&mut bytes, address).ok()?;
        Some(u64::from_ne_bytes(bytes))
    };
    // request->connection->log->connection
    let connection = pointer(request.checked_add(8)?)?;
    let log = pointer(connection.checked_add(80)?)?;
    if pointer(log.checked_add(16)?)? != client_connection {
        return None;
    }
    // request->upstream_states->nelts
    let states = pointer(request.checked_add(80)?)?;
    u32::try_from(pointer(states.checked_add(8)?)?).ok().filter(|attempts| *attempts <= 65_536)
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
    use super::{attempts, string};

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
        assert_eq!(attempts(own, 0, 1), None);
        assert_eq!(attempts(own, u64::MAX, 1), None);
        assert_eq!(attempts(u32::MAX, 4096, 1), None);
    }
}
