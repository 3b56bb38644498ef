//! nginx's memory, read from outside: what the kernel programs could not read in their time.

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
};

use tracer_common::event::complaint::LINE_LEN;

use crate::model::event::{RequestNow, RequestPlace, line_hash};

/// NGX_HTTP_MODULE, the first word of a request (src/http/ngx_http_config.h).
const HTTP_SIGNATURE: u32 = 0x5054_5448;
/// The head of an `ngx_http_request_t`, as far as it is of interest, in words.
const REQUEST_WORDS: usize = 160;
/// `ngx_pool_t`, bytes (src/core/ngx_palloc.h).
const POOL_HEAD: u64 = 80;
/// More attempts than these are none.
const MOST_ATTEMPTS: u64 = 65_536;
/// `ngx_http_upstream_state_t`, bytes: what it may be in any version.
const STATE_SIZE: std::ops::RangeInclusive<u64> = 64..=160;
/// glibc's pointers are far above this.
const LONGEST_URI: u64 = 1 << 20;

/// Words of the request, the same from 1.18 to 1.30 (src/http/ngx_http_request.h).
mod word {
    pub(super) const SRV_CONF: usize = 4;
    pub(super) const LOC_CONF: usize = 5;
    pub(super) const UPSTREAM_STATES: usize = 10;
    pub(super) const POOL: usize = 11;
    /// `headers_out` lies behind these.
    pub(super) const FIRST_OF_HEADERS_OUT: usize = 20;
    /// From `start_sec` on: `start_msec`, `method`, `http_version`, `request_line`, `uri`.
    pub(super) const BEHIND_START: usize = 8;
    pub(super) const START_MSEC: usize = 1;
    pub(super) const LINE_LENGTH: usize = 4;
    pub(super) const LINE_DATA: usize = 5;
    pub(super) const URI_LENGTH: usize = 6;
    pub(super) const URI_DATA: usize = 7;
    pub(super) const CONNECTION: usize = 1;
    /// `number` in `ngx_connection_t`, bytes; it is this word or one of the next two; so many words from there on matter.
    pub(super) const NUMBER: u64 = 200;
    pub(super) const NUMBERS: usize = 3;
    pub(super) const BEHIND_NUMBER: usize = 5;
    /// `ctx` in `ngx_http_core_srv_conf_t`, bytes.
    pub(super) const SERVER_CTX: u64 = 40;
    /// `loc_conf` in `ngx_http_core_loc_conf_t` is one of its first words.
    pub(super) const FIRST_OF_LOCATION: usize = 16;
}

/// The memory of one process; stays that process's when its number is taken by another.
#[derive(Debug)]
pub struct Memory(File);

impl Memory {
    pub fn open(pid: u32) -> io::Result<Self> {
        File::open(format!("/proc/{pid}/mem")).map(Self)
    }

    /// The word at this address.
    pub fn word(&self, address: u64) -> Option<u64> {
        self.words::<1>(address).map(|[word]| word)
    }

    /// So many words from this address on; None: not all can be read.
    pub fn words<const N: usize>(&self, address: u64) -> Option<[u64; N]> {
        self.read(address).ok()
    }

    fn read<const N: usize>(&self, address: u64) -> io::Result<[u64; N]> {
        let mut words = [0; N];
        let mut bytes = [0; 8];
        if N == 1 {
            self.0.read_exact_at(&mut bytes, address)?;
            words[0] = u64::from_ne_bytes(bytes);
            return Ok(words);
        }
        let mut buffer = vec![0; N * 8];
        self.0.read_exact_at(&mut buffer, address)?;
        for (word, bytes) in words.iter_mut().zip(buffer.as_chunks().0) {
            *word = u64::from_ne_bytes(*bytes);
        }
        Ok(words)
    }

    /// So many bytes, at most `most`; None: not all can be read, or there are more.
    pub fn bytes(&self, address: u64, length: u64, most: usize) -> Option<Vec<u8>> {
        let length = usize::try_from(length).ok().filter(|length| *length <= most)?;
        let mut bytes = vec![0; length];
        self.0.read_exact_at(&mut bytes, address).ok()?;
        Some(bytes)
    }

    /// The NUL-terminated string at this address, cut at 255 bytes; None: it cannot be read, or is empty. Unlike the
    /// kernel programs this can wait for a page to be brought in.
    pub fn string(&self, address: u64) -> Option<String> {
        let mut bytes = [0; 255];
        // A short read ends at a hole behind the string.
        let length = self.0.read_at(&mut bytes, address).ok()?;
        let text = bytes.get(..length)?.split(|byte| *byte == 0).next()?;
        Some(String::from_utf8_lossy(text).into_owned()).filter(|text| !text.is_empty())
    }

    /// Is it the request that was meant, or another one at the same address that began in the same millisecond?
    fn is_same(&self, main: &[u64; REQUEST_WORDS], start: usize, place: &RequestPlace) -> bool {
        let requests = place.requests.is_none_or(|(word, requests)| {
            let behind: Option<[u64; word::BEHIND_NUMBER]> =
                self.words(main[word::CONNECTION].wrapping_add(word::NUMBER));
            behind.is_some_and(|words| {
                let number = words.iter().take(word::NUMBERS).position(|number| *number == place.connection);
                number.and_then(|number| words.get(number + 1 + word)) == Some(&requests)
            })
        });
        let line = place.line.is_none_or(|line| {
            let (length, data) = (main[start + word::LINE_LENGTH], main[start + word::LINE_DATA]);
            // Cleared when it is freed.
            let Some(bytes) = self.bytes(data, length.min(LINE_LEN as u64 - 1), LINE_LEN) else { return false };
            length == 0 || line_hash(&text(&bytes)) == line
        });
        requests && line
    }

    /// Entries of `r->upstream_states`, an `ngx_array_t` of the request's pool; None: it is none, or none any more: of a request
    /// that was freed it may be another one's by now.
    fn attempts(&self, states: u64, pool: u64) -> Option<u32> {
        let [_, count, size, room, of_pool] = self.words::<5>(states)?;
        let is_array = STATE_SIZE.contains(&size) && count <= room && room <= MOST_ATTEMPTS;
        (is_array && pool == of_pool).then_some(count).and_then(|count| u32::try_from(count).ok())
    }

    /// `r->loc_conf`, or 0 where that is none: of a request that was freed it may be anything by now.
    fn location_conf(&self, main: &[u64; REQUEST_WORDS], place: &RequestPlace) -> u64 {
        let conf = main[word::LOC_CONF];
        if conf == place.location_conf || self.is_of_location(conf) || self.is_of_server(main[word::SRV_CONF], conf) {
            conf
        } else {
            0
        }
    }

    /// A location's own configuration points back: `clcf->loc_conf`, ngx_http_core_location(). The core module's is the
    /// first of all modules'.
    fn is_of_location(&self, conf: u64) -> bool {
        let core = self.word(conf).and_then(|core| self.words::<{ word::FIRST_OF_LOCATION }>(core));
        conf != 0 && core.is_some_and(|core| core.contains(&conf))
    }

    /// Outside of all locations: `cscf->ctx->loc_conf`.
    fn is_of_server(&self, server_conf: u64, conf: u64) -> bool {
        let server = self.word(server_conf).and_then(|core| self.word(core.checked_add(word::SERVER_CTX)?));
        let ctx = server.and_then(|ctx| self.words::<3>(ctx));
        ctx.is_some_and(|[_, server, location]| server == server_conf && location == conf)
    }

    /// Looks at a request again.
    pub fn request(&self, place: &RequestPlace) -> RequestNow {
        let main = match self.read::<REQUEST_WORDS>(place.main) {
            Ok(main) => main,
            // Freed, and given back to the kernel: glibc trims its heap (mem_rw(), fs/proc/base.c).
            Err(error) if error.raw_os_error() == Some(libc::EIO) => return RequestNow::Gone,
            Err(_) => return RequestNow::Unreadable,
        };
        // Of the first word 32 bits are the signature's.
        let start = place.start_offset as usize / 8;
        if start > REQUEST_WORDS - word::BEHIND_START {
            return RequestNow::Unreadable;
        }
        let (second, millisecond) = (main[start], main[start + word::START_MSEC]);
        let began = second.checked_mul(1000).and_then(|ms| ms.checked_add(millisecond));
        if main[0] as u32 != HTTP_SIGNATURE || began != Some(place.start_ms) {
            return RequestNow::Gone;
        }
        if !self.is_same(&main, start, place) {
            return RequestNow::Gone;
        }
        let states = if place.request == place.main {
            Some(main[word::UPSTREAM_STATES])
        } else {
            self.word(place.request.wrapping_add(8 * word::UPSTREAM_STATES as u64))
        };
        // Cleared when it is freed; it begins right before the request, which is the first of it (ngx_http_alloc_request()).
        let pool = if main[word::POOL] == 0 { place.main.wrapping_sub(POOL_HEAD) } else { main[word::POOL] };
        let attempts = states.and_then(|states| self.attempts(states, pool));
        // ngx_http_free_request() clears it just before the pool goes.
        let ended = main[word::POOL] == 0 || main[start + word::LINE_LENGTH] == 0;
        RequestNow::There {
            attempts,
            status: status(&main).filter(|status| !(ended && may_be_a_size(*status))),
            ended,
            location_conf: self.location_conf(&main, place),
            uri: self.uri(main[start + word::URI_LENGTH], main[start + word::URI_DATA]),
        }
    }

    /// `r->uri.data`, or 0 where no URI is: glibc may have written there since the request was freed.
    fn uri(&self, length: u64, data: u64) -> u64 {
        let begins = || self.bytes(data, 1, 1).is_some_and(|bytes| bytes == b"/");
        if (1..=LONGEST_URI).contains(&length) && begins() { data } else { 0 }
    }
}

/// Could glibc have written this in front of a piece of freed memory? Sizes are multiples of 16, with PREV_INUSE (1) set
/// (malloc/malloc.c).
const fn may_be_a_size(status: u16) -> bool {
    status & 0xf == 1
}

/// The process that this one was forked from and whose code and constants it still shares, at the same addresses; None: it
/// runs another program.
pub fn twin(pid: u32) -> Option<u32> {
    let first_mapping = |pid: u32| {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
        maps.lines().next().map(str::to_owned)
    };
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // pid (comm) state ppid …; the comm may have spaces and brackets.
    let (_, behind) = stat.rsplit_once(')')?;
    let parent = behind.split_ascii_whitespace().nth(1)?.parse().ok()?;
    (first_mapping(pid)? == first_mapping(parent)?).then_some(parent)
}

/// A NUL-terminated or cut text, as events have it.
pub fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// `headers_out.status`, behind the lists `headers` and `trailers`, which ngx_http_alloc_request() makes for 20 and 4
/// headers from one pool (src/http/ngx_http_request.c): that is how they are found. None: not found.
fn status(request: &[u64]) -> Option<u16> {
    // An `ngx_list_t`: last, part { elts, nelts, next }, size, nalloc, pool.
    let is_here = |window: &&[u64]| match **window {
        [.., size, 20, pool, _, _, _, _, trailer_size, 4, trailer_pool, _] => {
            size == trailer_size && matches!(size, 48 | 56) && pool == trailer_pool && pool != 0
        }
        _ => false,
    };
    let found = request.get(word::FIRST_OF_HEADERS_OUT..)?.windows(15).find(is_here)?;
    u16::try_from(*found.last()?).ok().filter(|status| *status == 0 || (100..1000).contains(status))
}

/// The memories of the workers, opened once each.
#[derive(Debug, Default)]
pub struct Memories(HashMap<u32, Memory>);

impl Memories {
    pub fn of(&mut self, pid: u32) -> Option<&Memory> {
        use std::collections::hash_map::Entry;
        match self.0.entry(pid) {
            Entry::Occupied(known) => Some(known.into_mut()),
            Entry::Vacant(new) => Memory::open(pid).ok().map(|memory| &*new.insert(memory)),
        }
    }

    /// The process is another one by now, or runs another program.
    pub fn forget(&mut self, pid: u32) {
        self.0.remove(&pid);
    }
}

#[cfg(test)]
mod tests {
    use super::{HTTP_SIGNATURE, Memory, POOL_HEAD, REQUEST_WORDS, may_be_a_size, twin, word};
    use crate::model::event::{RequestNow, RequestPlace, line_hash};

    const START: usize = 130;
    const POOL: u64 = 5;
    const LOCATION: u64 = 77;

    fn own() -> Memory {
        Memory::open(std::process::id()).expect("our own memory")
    }

    fn request(states: u64, status: u64) -> Vec<u64> {
        let mut words = vec![0; REQUEST_WORDS];
        words[0] = u64::from(HTTP_SIGNATURE);
        words[word::LOC_CONF] = LOCATION;
        words[word::UPSTREAM_STATES] = states;
        words[word::POOL] = POOL;
        // Like headers_out's, but with no trailers behind it: headers_in.
        words[13..20].copy_from_slice(&[1, 2, 3, 0, 56, 20, 9]);
        words[60..75].copy_from_slice(&[1, 2, 3, 0, 56, 20, 9, 1, 2, 3, 0, 56, 4, 9, status]);
        words[START..START + 2].copy_from_slice(&[1_700_000_000, 250]);
        (words[START + word::URI_LENGTH], words[START + word::URI_DATA]) = (PATH.len() as u64, PATH.as_ptr() as u64);
        words[START + word::LINE_LENGTH] = LINE.len() as u64;
        words[START + word::LINE_DATA] = LINE.as_ptr() as u64;
        words[word::CONNECTION] = CONNECTION.as_ptr() as u64;
        words
    }

    const LINE: &str = "GET / HTTP/1.1";
    static PATH: &str = "/somewhere";
    /// Number 7 where 1.26 has it, then `start_time` and the 5th request.
    static CONNECTION: [u64; 32] = {
        let mut words = [0; 32];
        (words[26], words[27], words[28]) = (7, 1234, 5);
        words
    };

    fn place(words: &[u64]) -> RequestPlace {
        let address = words.as_ptr() as u64;
        RequestPlace {
            worker: std::process::id(),
            request: address,
            main: address,
            start_ms: 1_700_000_000_250,
            start_offset: START as u32 * 8,
            location_conf: LOCATION,
            connection: 7,
            requests: Some((1, 5)),
            line: Some(line_hash(LINE)),
        }
    }

    #[test]
    fn a_request_looked_at_again() {
        let states = [0, 3_u64, 96, 4, POOL];
        let words = request(states.as_ptr() as u64, 0);
        let uri = PATH.as_ptr() as u64;
        let open = RequestNow::There { attempts: Some(3), status: Some(0), ended: false, location_conf: LOCATION, uri };
        assert_eq!(own().request(&place(&words)), open);
        let words = request(states.as_ptr() as u64, 504);
        let RequestNow::There { status: Some(504), .. } = own().request(&place(&words)) else { panic!("status") };
        let mut words = request(0, 502);
        words[word::POOL] = 0;
        let RequestNow::There { attempts: None, ended: true, .. } = own().request(&place(&words)) else {
            panic!("ended")
        };
        words[72] = 5;
        let RequestNow::There { status: None, .. } = own().request(&place(&words)) else { panic!("no trailers") };
    }

    /// glibc writes into what is freed.
    #[test]
    fn of_a_freed_request_only_what_makes_sense_is_believed() {
        let look = |change: &dyn Fn(&mut Vec<u64>)| {
            let mut states = [0, 1_u64, 96, 1, POOL];
            let mut words = request(0, 502);
            states[4] = words.as_ptr() as u64 - POOL_HEAD;
            (words[word::POOL], words[word::UPSTREAM_STATES]) = (0, std::hint::black_box(&states).as_ptr() as u64);
            change(&mut words);
            match own().request(&place(&words)) {
                RequestNow::There { attempts, location_conf, uri, .. } => (attempts, location_conf, uri),
                other => panic!("{other:?}"),
            }
        };
        let uri = PATH.as_ptr() as u64;
        assert_eq!(look(&|_| ()), (Some(1), LOCATION, uri));
        // In front of a piece of the freed memory stands its size.
        assert_eq!(look(&|words| words[START + word::URI_DATA] = 0x211), (Some(1), LOCATION, 0));
        assert!(may_be_a_size(0x211) && !may_be_a_size(502) && !may_be_a_size(200));
        let arena = [0_u64; 20];
        assert_eq!(look(&|words| words[word::LOC_CONF] = arena.as_ptr() as u64), (Some(1), 0, uri));
        assert_eq!(look(&|words| words[START + word::URI_LENGTH] = arena.as_ptr() as u64), (Some(1), LOCATION, 0));
        assert_eq!(look(&|words| words[word::UPSTREAM_STATES] = arena.as_ptr() as u64), (None, LOCATION, uri));
        let of_another = [0, 1_u64, 96, 1, POOL];
        let other = std::hint::black_box(&of_another).as_ptr() as u64;
        assert_eq!(look(&|words| words[word::UPSTREAM_STATES] = other), (None, LOCATION, uri));
        // Another location, whose own configuration points back; the configuration of a server.
        let mut core = [0_u64; 16];
        let conf = [core.as_ptr() as u64];
        core[8] = conf.as_ptr() as u64;
        let other = std::hint::black_box(&conf).as_ptr() as u64;
        std::hint::black_box(&core);
        assert_eq!(look(&|words| words[word::LOC_CONF] = other), (Some(1), other, uri));
        let mut ctx = [1_u64, 0, 99];
        let server = [0, 0, 0, 0, 0, ctx.as_ptr() as u64];
        let server_conf = [server.as_ptr() as u64];
        ctx[1] = server_conf.as_ptr() as u64;
        std::hint::black_box((&ctx, &server));
        let of_server = |words: &mut Vec<u64>| {
            words[word::SRV_CONF] = std::hint::black_box(&server_conf).as_ptr() as u64;
            words[word::LOC_CONF] = 99;
        };
        assert_eq!(look(&of_server), (Some(1), 99, uri));
    }

    #[test]
    fn another_request_has_its_place() {
        let words = request(0, 502);
        let others = [
            RequestPlace { start_ms: 1, ..place(&words) },
            RequestPlace { requests: Some((1, 4)), ..place(&words) },
            RequestPlace { connection: 8, ..place(&words) },
            RequestPlace { line: Some(line_hash("GET /other HTTP/1.1")), ..place(&words) },
        ];
        for other in others {
            assert_eq!(own().request(&other), RequestNow::Gone, "{other:?}");
        }
        let mut words = request(0, 502);
        words[0] = 0;
        assert_eq!(own().request(&place(&words)), RequestNow::Gone);
    }

    #[test]
    fn our_own_strings() {
        let text = c"a string of our own";
        assert_eq!(own().string(text.as_ptr() as u64).as_deref(), Some("a string of our own"));
        assert_eq!(own().string(8), None);
        assert_eq!(own().bytes(text.as_ptr() as u64, 8, 8).as_deref(), Some(b"a string".as_slice()));
        assert_eq!(own().bytes(text.as_ptr() as u64, 8, 7), None);
    }

    #[test]
    fn a_program_of_its_own_has_no_twin() {
        let mut child = std::process::Command::new("sleep").arg("9").spawn().expect("sleep");
        assert_eq!(twin(child.id()), None);
        child.kill().expect("ours");
        child.wait().expect("ours");
        assert_eq!(twin(u32::MAX), None);
    }

    #[test]
    fn nonsense_is_none() {
        let words = request(u64::MAX - 4, 502);
        let place = RequestPlace { start_offset: u32::MAX, ..place(&words) };
        assert_eq!(own().request(&place), RequestNow::Unreadable);
        assert_eq!(own().request(&RequestPlace { request: 4096, main: 4096, ..place }), RequestNow::Gone, "unmapped");
        assert!(Memory::open(u32::MAX).is_err());
    }
}
