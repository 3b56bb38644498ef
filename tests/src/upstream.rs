//! Upstreams: listeners that play a script on every connection, or fail before there is one.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use rustls::ServerConfig;

use crate::dns::Dns;
use crate::filter::{self, Filter};
use crate::script::{self, Step};
use crate::stream::Stream;
use crate::tls::Clients;
use crate::wait;
use crate::{dns, icmp, listener, tls};

/// Where an upstream listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// 127.0.0.1, any port; in a routed scenario 10.77.0.2 in the router's namespace.
    V4,
    /// ::1, any port.
    V6,
    /// A unix socket in the scenario's directory.
    Unix,
}

/// How an upstream receives connections.
#[derive(Clone, Copy, Debug)]
pub enum Listen {
    /// Accepts and plays the script.
    Accept(&'static [Step]),
    /// The port is taken, but nobody listens: connections are refused.
    Nobody,
    /// Listens behind a filter that swallows segments, and plays the script on what comes through.
    Filtered(Filter, &'static [Step]),
    /// Listens, never accepts, and its accept queue is full.
    Full,
    /// Accepts, shakes hands as the TLS server `lab`, and plays the script; its certificate is `<dir>/NAME.pem`.
    Tls(&'static [Step]),
    /// The same, and wants a certificate of its client, which nginx does not have.
    MutualTls,
    /// A name server on UDP that gives this answer to every query.
    Dns(Dns),
    /// A host that answers every SYN with an ICMP error of this code; routed scenarios only.
    Icmp(u8),
}

/// A gate where scripts wait for the scenario.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    open: AtomicBool,
    waiting: AtomicUsize,
}

impl Gate {
    pub(crate) fn pass(&self, shared: &Shared) -> Result<()> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let passed = wait::until("the gate", wait::SOON * 3, || self.open.load(Ordering::SeqCst) || shared.ended());
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        passed
    }
}

/// What the threads of one upstream share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    stop: AtomicBool,
    accepted: AtomicUsize,
    pub(crate) requests: AtomicUsize,
    pub(crate) gate: Gate,
}

impl Shared {
    fn ended(&self) -> bool {
        self.stop.load(Ordering::SeqCst) || wait::interrupted()
    }

    /// An error when the upstream is to end.
    pub(crate) fn goes_on(&self) -> Result<()> {
        ensure!(!self.ended(), "the upstream ends");
        Ok(())
    }

    /// Waits until a descriptor has something to read, or the upstream ends.
    pub(crate) fn readable(&self, fd: i32) -> Result<()> {
        loop {
            let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
            // SAFETY: one live pollfd is given, and its count is one.
            let count = unsafe { libc::poll(&raw mut poll, 1, 50) };
            if count > 0 {
                return Ok(());
            }
            self.goes_on()?;
        }
    }
}

/// What is played on each accepted connection.
struct Play {
    steps: &'static [Step],
    tls: Option<Arc<ServerConfig>>,
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A running upstream; it ends with its guard.
#[derive(Debug)]
pub struct Upstream {
    address: String,
    port: u16,
    shared: Arc<Shared>,
    listener: Option<TcpListener>,
    queued: Mutex<Vec<OwnedFd>>,
    bound: Option<OwnedFd>,
}

impl Upstream {
    /// Starts one, in the calling thread's network namespace. `address` replaces 127.0.0.1.
    pub fn start(place: Place, listen: Listen, path: &Path, address: Option<Ipv4Addr>) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        if place == Place::Unix {
            return Self::start_unix(listen, path, shared);
        }
        let ip = match place {
            Place::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
            _ => IpAddr::V4(address.unwrap_or(Ipv4Addr::LOCALHOST)),
        };
        let socket = listener::bound(ip)?;
        let listener = TcpListener::from(socket.try_clone()?);
        let at = listener.local_addr()?;
        let mut upstream = Self {
            address: at.to_string(),
            port: at.port(),
            shared,
            listener: None,
            queued: Mutex::default(),
            bound: Some(socket),
        };
        match listen {
            Listen::Nobody => {}
            Listen::Icmp(code) => upstream.address = icmp::refuse(code, &upstream.shared)?,
            Listen::Accept(steps) => upstream.serve(listener, Play { steps, tls: None }, None)?,
            Listen::Filtered(kind, steps) => upstream.serve(listener, Play { steps, tls: None }, Some(kind))?,
            Listen::Tls(steps) => {
                let tls = Some(tls::server(&path.with_extension("pem"), Clients::All)?);
                upstream.serve(listener, Play { steps, tls }, None)?;
            }
            Listen::MutualTls => {
                let tls = Some(tls::server(&path.with_extension("pem"), Clients::Known)?);
                upstream.serve(listener, Play { steps: &[], tls }, None)?;
            }
            Listen::Dns(answer) => upstream.address = dns::serve(answer, &upstream.shared)?,
            Listen::Full => {
                listener::listen(&listener, 0)?;
                // With a backlog of 0 the queue holds one connection (sk_acceptq_is_full(), include/net/sock.h).
                let filler = TcpStream::connect(at).context("filling the accept queue")?;
                upstream.queued.lock().unwrap_or_else(PoisonError::into_inner).push(filler.into());
                upstream.listener = Some(listener);
            }
        }
        Ok(upstream)
    }

    fn serve(&mut self, listener: TcpListener, play: Play, kind: Option<Filter>) -> Result<()> {
        if let Some(kind) = kind {
            filter::attach(&listener, kind)?;
        }
        listener::listen(&listener, 1024)?;
        self.listener = Some(listener.try_clone()?);
        accept_loop(Listener::Tcp(listener), play, &self.shared)
    }

    fn start_unix(listen: Listen, path: &Path, shared: Arc<Shared>) -> Result<Self> {
        let mut queued = Vec::new();
        match listen {
            Listen::Accept(steps) => {
                let listener = UnixListener::bind(path).with_context(|| format!("binding {}", path.display()))?;
                open_to_all(path)?;
                accept_loop(Listener::Unix(listener), Play { steps, tls: None }, &shared)?;
            }
            Listen::Nobody => {
                drop(UnixListener::bind(path)?);
                open_to_all(path)?;
            }
            Listen::Full => {
                let listener = UnixListener::bind(path)?;
                open_to_all(path)?;
                // SAFETY: listen(2) on an open socket changes its backlog and touches no memory of ours.
                let code = unsafe { libc::listen(listener.as_raw_fd(), 0) };
                ensure!(code == 0, "listen: {}", std::io::Error::last_os_error());
                queued.push(UnixStream::connect(path)?.into());
                queued.push(listener.into());
            }
            Listen::Filtered(..) | Listen::Icmp(_) | Listen::Tls(_) | Listen::MutualTls | Listen::Dns(_) => {
                bail!("that needs an address")
            }
        }
        let address = format!("unix:{}", path.display());
        Ok(Self { address, port: 0, shared, listener: None, queued: Mutex::new(queued), bound: None })
    }

    /// `ip:port`, `[ip]:port` or `unix:PATH`, as nginx writes it.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many connections were accepted so far.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// How many requests were read so far.
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// How many scripts stand at the gate.
    pub fn waiting(&self) -> usize {
        self.shared.gate.waiting.load(Ordering::SeqCst)
    }

    /// Opens the gate, for all that wait and all to come.
    pub fn open_gate(&self) {
        self.shared.gate.open.store(true, Ordering::SeqCst);
    }

    /// Takes the filter off the listener.
    pub fn unfilter(&self) -> Result<()> {
        filter::detach(self.listener.as_ref().context("no TCP listener")?)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        let Some(bound) = &self.bound else { return };
        // SAFETY: shutdown(2) on our own open socket; it wakes the thread in accept(2).
        unsafe { libc::shutdown(bound.as_raw_fd(), libc::SHUT_RDWR) };
    }
}

/// Starts the named upstreams of a scenario.
pub type Named = HashMap<&'static str, Upstream>;

pub(crate) fn open_to_all(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).context("opening the socket to all")
}

fn accept_loop(listener: Listener, play: Play, shared: &Arc<Shared>) -> Result<()> {
    let shared = Arc::clone(shared);
    let builder = std::thread::Builder::new().name("upstream".into());
    let accept = move || {
        loop {
            let fd = match &listener {
                Listener::Tcp(listener) => listener.as_raw_fd(),
                Listener::Unix(listener) => listener.as_raw_fd(),
            };
            if shared.readable(fd).is_err() {
                return;
            }
            let accepted = match &listener {
                Listener::Tcp(listener) => listener.accept().map(|(stream, _)| Stream::Tcp(stream)),
                Listener::Unix(listener) => listener.accept().map(|(stream, _)| Stream::Unix(stream)),
            };
            let Ok(stream) = accepted else { return };
            if let Stream::Tcp(stream) = &stream {
                let _ = stream.set_nodelay(true);
            }
            shared.accepted.fetch_add(1, Ordering::SeqCst);
            let shared = Arc::clone(&shared);
            let builder = std::thread::Builder::new().name("upstream".into()).stack_size(256 << 10);
            let (steps, tls) = (play.steps, play.tls.clone());
            // A script that ends with an error ended because nginx went away: nothing to report.
            let _ = builder.spawn(move || -> Result<()> {
                let stream = match (stream, tls) {
                    (Stream::Tcp(stream), Some(tls)) => tls::accept(stream, tls)?,
                    (stream, _) => stream,
                };
                script::play(stream, steps, &shared)
            });
        }
    };
    builder.spawn(accept).context("starting an upstream")?;
    Ok(())
}
