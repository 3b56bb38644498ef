//! nginx's memory, read from outside: one number of one request.

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

#[cfg(test)]
mod tests {
    use super::attempts;

    #[test]
    fn nonsense_is_none() {
        let own = std::process::id();
        assert_eq!(attempts(own, 0, 1), None);
        assert_eq!(attempts(own, u64::MAX, 1), None);
        assert_eq!(attempts(u32::MAX, 4096, 1), None);
    }
}
