//! What a worker's memory says about the configuration in force.
//!
//! A request points at the configurations of its `server` and its `location`, arrays with an entry per module; where a
//! module's entry is, the module's own symbol tells. They live as long as the worker, so there is time to read them. Every
//! step is checked: a module carries its name, a path begins with a slash, a time is a time.
//! Layouts: src/core/ngx_module.h, src/http/ngx_http_core_module.h, ngx_http_upstream.h, the same from 1.18 to 1.30.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    sync::Arc,
};

use crate::{
    collect::memory::Memory,
    model::configured::{Block, Configured, Module, Pass, Place, Server},
    probe::symbol,
};

/// Locations remembered of one worker; above it the memory is read again each time.
const LOCATIONS: usize = 4096;
/// Longest name, path or pattern that is taken.
const LONGEST: usize = 4096;
/// Largest place in a configuration array.
const MODULES: u64 = 1024;
/// A worker with more lines of configuration has none.
const LINES: u64 = 10_000_000;
/// The longest timeout that nginx can be given, ms (ngx_parse_time(), src/core/ngx_parse.c).
const LONGEST_MS: u64 = i32::MAX as u64 * 1000;

const CORE: &str = "ngx_http_core_module";

/// The configurations of the workers, read as they are asked for.
#[derive(Debug, Default)]
pub struct Configurations {
    workers: HashMap<u32, Option<Worker>>,
    /// By device and inode: the modules' places in each binary.
    binaries: HashMap<(u64, u64), BTreeMap<&'static str, u64>>,
}

#[derive(Debug)]
struct Worker {
    memory: Memory,
    core: u64,
    modules: Vec<(Module, u64)>,
    /// By `r->srv_conf` and `r->loc_conf`.
    known: HashMap<(u64, u64), Arc<Configured>>,
}

impl Configurations {
    /// What this worker is configured to do with requests that point there; None: its memory does not say.
    pub fn of(&mut self, pid: u32, server_conf: u64, location_conf: u64) -> Option<Arc<Configured>> {
        if server_conf == 0 || location_conf == 0 {
            return None;
        }
        if !self.workers.contains_key(&pid) {
            let worker = self.open(pid);
            self.workers.insert(pid, worker);
        }
        self.workers.get_mut(&pid)?.as_mut().map(|worker| worker.at(server_conf, location_conf))
    }

    /// The process is another one by now, or runs another program.
    pub fn forget(&mut self, pid: u32) {
        self.workers.remove(&pid);
    }

    fn open(&mut self, pid: u32) -> Option<Worker> {
        let executable = PathBuf::from(format!("/proc/{pid}/exe"));
        let file = fs::metadata(&executable).ok()?;
        let identity = (file.dev(), file.ino());
        let symbols = self.binaries.entry(identity).or_insert_with(|| {
            let names = Module::ALL.map(symbol_of).into_iter().chain([CORE]);
            symbol::addresses(&executable, names).unwrap_or_default()
        });
        let base = loaded_at(pid, identity.1).ok()??;
        let memory = Memory::open(pid).ok()?;
        let place = |name: &'static str| place_of(&memory, base.wrapping_add(*symbols.get(name)?), name);
        let core = place(CORE)?;
        let modules = Module::ALL.into_iter().filter_map(|module| Some((module, place(symbol_of(module))?))).collect();
        Some(Worker { core, modules, memory, known: HashMap::new() })
    }
}

impl Worker {
    fn at(&mut self, server_conf: u64, location_conf: u64) -> Arc<Configured> {
        if let Some(known) = self.known.get(&(server_conf, location_conf)) {
            return Arc::clone(known);
        }
        let found = Arc::new(Configured {
            server: self.entry(server_conf, self.core).and_then(|server| self.server(server)),
            location: self.entry(location_conf, self.core).and_then(|location| self.text(location)),
            pass: self.pass(location_conf),
        });
        if self.known.len() < LOCATIONS {
            self.known.insert((server_conf, location_conf), Arc::clone(&found));
        }
        found
    }

    /// A module's entry in a configuration array.
    fn entry(&self, array: u64, place: u64) -> Option<u64> {
        self.memory.word(array.checked_add(place * 8)?).filter(|entry| *entry != 0)
    }

    /// `ngx_http_core_srv_conf_t`: `server_names` (an array of five words), `ctx`, `file_name`, `line`, `server_name`.
    fn server(&self, address: u64) -> Option<Server> {
        let words = self.memory.words::<10>(address)?;
        Some(Server { name: self.text(address + 8 * 8)?, place: self.place(words[6], words[7]) })
    }

    /// The one module of the location that passes requests on to an upstream it knows beforehand.
    fn pass(&self, location_conf: u64) -> Option<Pass> {
        let mut passes = self.modules.iter().filter_map(|(module, place)| {
            // `upstream` is the first member of every such module's configuration.
            let words = self.memory.words::<7>(self.entry(location_conf, *place)?)?;
            (words[0] != 0).then_some((*module, words))
        });
        let (module, words) = passes.next().filter(|_| passes.next().is_none())?;
        let [upstream, connect, send, read, next, _send_lowat, buffer_size] = words;
        if [connect, send, read, next].iter().any(|ms| *ms > LONGEST_MS) || buffer_size > 1 << 30 {
            return None;
        }
        Some(Pass {
            module,
            block: self.block(upstream),
            connect_timeout_ms: connect,
            send_timeout_ms: send,
            read_timeout_ms: read,
            next_upstream_timeout_ms: next,
            buffer_size,
        })
    }

    /// `ngx_http_upstream_srv_conf_t`: `peer` (three words), `srv_conf`, `servers`, `flags`, `host`, `file_name`, `line`,
    /// `port`.
    fn block(&self, address: u64) -> Option<Block> {
        let words = self.memory.words::<11>(address)?;
        let host = self.text(address + 6 * 8).filter(|host| !host.is_empty())?;
        // An `upstream` block has a configuration of its own; what a URL names has none, and a port.
        let port = words[10] as u16;
        let name = if words[3] == 0 && port != 0 && !host.starts_with('/') { format!("{host}:{port}") } else { host };
        Some(Block { name, place: self.place(words[8], words[9]) })
    }

    fn place(&self, file_name: u64, line: u64) -> Option<Place> {
        let file = self.memory.string(file_name).filter(|file| file.starts_with('/'))?;
        Some(Place { file, line: u32::try_from(line).ok().filter(|line| (1..LINES).contains(&u64::from(*line)))? })
    }

    /// An `ngx_str_t`.
    fn text(&self, address: u64) -> Option<String> {
        let [length, data] = self.memory.words(address)?;
        let bytes = self.memory.bytes(data, length, LONGEST)?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }
}

const fn symbol_of(module: Module) -> &'static str {
    match module {
        Module::Proxy => "ngx_http_proxy_module",
        Module::Fastcgi => "ngx_http_fastcgi_module",
        Module::Uwsgi => "ngx_http_uwsgi_module",
        Module::Scgi => "ngx_http_scgi_module",
        Module::Grpc => "ngx_http_grpc_module",
        Module::Memcached => "ngx_http_memcached_module",
    }
}

/// A module's place in the configuration arrays: `ctx_index`, first of `ctx_index, index, name` in `ngx_module_t`.
fn place_of(memory: &Memory, module: u64, name: &str) -> Option<u64> {
    let [place, _, own_name] = memory.words(module)?;
    (place < MODULES && memory.string(own_name)? == name).then_some(place)
}

/// Where the executable's first segment is in the process, from /proc/PID/maps (proc(5)); None: nowhere.
fn loaded_at(pid: u32, inode: u64) -> io::Result<Option<u64>> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    Ok(maps.lines().find_map(|line| first_mapping(line, inode)))
}

fn first_mapping(line: &str, inode: u64) -> Option<u64> {
    let mut fields = line.split_ascii_whitespace();
    let (start, _) = fields.next()?.split_once('-')?;
    let offset = fields.nth(1)?;
    let of_file = fields.nth(1)?.parse() == Ok(inode);
    (of_file && offset.bytes().all(|digit| digit == b'0')).then(|| u64::from_str_radix(start, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::{Configurations, first_mapping};

    #[test]
    fn the_first_mapping_of_a_file() {
        let line = "55c03a2f1000-55c03a30f000 r--p 00000000 fe:00 12345                      /usr/sbin/nginx";
        assert_eq!(first_mapping(line, 12345), Some(0x55c0_3a2f_1000));
        assert_eq!(first_mapping(line, 1), None);
        assert_eq!(first_mapping(&line.replace("00000000", "0001e000"), 12345), None);
        assert_eq!(first_mapping("7ffd2b1e9000-7ffd2b20a000 rw-p 00000000 00:00 0 [stack]", 12345), None);
        assert_eq!(first_mapping("", 0), None);
    }

    #[test]
    fn a_process_that_is_no_nginx_has_none() {
        let mut configurations = Configurations::default();
        assert_eq!(configurations.of(std::process::id(), 4096, 4096), None);
        assert_eq!(configurations.of(u32::MAX, 4096, 4096), None);
    }
}
