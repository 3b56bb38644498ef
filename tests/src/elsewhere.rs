//! A host that this kernel knows nothing of: a TCP of its own, in user space, behind a device whose packets it reads and
//! writes (TUN). What a real other host does arrives like this: packets, and nobody here to name.

use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{ChecksumCapabilities, Device as _, Medium, TunTapInterface, TxToken as _, wait};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{
    HardwareAddress, IpAddress, IpCidr, IpProtocol, Ipv4Address, Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket, TcpRepr,
    TcpSeqNumber,
};

use crate::namespace::{Namespace, join};
use crate::wait::let_pass;

const DEVICE: &str = "elsewhere";
const NEAR: &str = "10.55.0.1/24";
/// Where it is; nobody has the other addresses of that network.
pub(crate) const ADDRESS: &str = "10.55.0.2";
/// Closes the connection once it has the request.
pub(crate) const CLOSES: u16 = 80;
/// Resets it.
pub(crate) const RESETS: u16 = 81;
/// Acknowledges the request, and no more.
pub(crate) const IS_SILENT: u16 = 82;
/// Nothing listens.
pub(crate) const REFUSES: u16 = 83;
/// Resets the connection as soon as it is made, whatever comes: as a box on the way may.
pub(crate) const CUTS: u16 = 84;
/// Acknowledges the request, and then a reset comes from a box that is nearer.
pub(crate) const CUTS_NEARER: u16 = 85;
/// Routers between the box and this host, and between the other host and this one.
pub(crate) const NEARER: u8 = 2;
pub(crate) const FARTHER: u8 = 7;
/// What packets begin with.
const TTL: u8 = 64;
/// How soon: nginx has sent the request by then.
const SOON: std::time::Duration = std::time::Duration::from_millis(100);

/// Connections at once, on each port.
const AT_ONCE: usize = 4;
const BUFFER: usize = 4096;
/// How long it takes at most to see that it is to end.
const BREATH: Duration = Duration::from_millis(20);

/// So many SYNs to this port of [`NEAR`], each from another address or port, none of which is ever heard of again.
#[derive(Clone, Copy)]
struct Flood {
    port: u16,
    count: u32,
}

/// Ends when dropped.
pub(crate) struct Elsewhere {
    ends: Arc<AtomicBool>,
    floods: Sender<Flood>,
    thread: Option<JoinHandle<()>>,
}

impl Elsewhere {
    /// Sets it up, with a way to it from this namespace.
    pub(crate) fn behind(namespace: &Namespace) -> Result<Self> {
        Self::at(namespace, std::time::Duration::ZERO)
    }

    /// The same, so far away that a packet takes `distance` to get there.
    pub(crate) fn at(namespace: &Namespace, distance: std::time::Duration) -> Result<Self> {
        let ends = Arc::new(AtomicBool::new(false));
        let (asked, fd) = (Arc::clone(&ends), Arc::clone(namespace.fd()));
        let (made, ready) = channel();
        let (floods, asked_for) = channel();
        let inside = move || {
            // The device stays on the thread that makes it.
            let device = join(&fd)
                .and_then(|()| TunTapInterface::new(DEVICE, Medium::Ip).context("making a TUN device (/dev/net/tun)"));
            match device {
                Ok(device) => {
                    // Whoever waits for it is gone only if the lab ends.
                    let _ = made.send(Ok(()));
                    live(device, distance, &asked, &asked_for);
                }
                Err(error) => {
                    let _ = made.send(Err(error));
                }
            }
        };
        let thread = std::thread::Builder::new().name(DEVICE.into()).spawn(inside).context("a thread")?;
        let elsewhere = Self { ends, floods, thread: Some(thread) };
        ready.recv().context("the thread")??;
        namespace.ip(&format!("address add {NEAR} dev {DEVICE}"))?;
        namespace.ip(&format!("link set {DEVICE} up"))?;
        Ok(elsewhere)
    }

    /// Begins to send SYNs to a port of the namespace, so many and no more.
    pub(crate) fn flood(&self, port: u16, count: u32) -> Result<()> {
        self.floods.send(Flood { port, count }).context("it has ended")
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn live(mut device: TunTapInterface, distance: std::time::Duration, ends: &AtomicBool, floods: &Receiver<Flood>) {
    let mut interface = Interface::new(Config::new(HardwareAddress::Ip), &mut device, Instant::now());
    let address: Option<IpAddress> = ADDRESS.parse().ok();
    interface.update_ip_addrs(|addresses| {
        // One of a few is always taken.
        let _ = address.map(|address| addresses.push(IpCidr::new(address, 24)));
    });
    let mut sockets = SocketSet::new(Vec::new());
    let all: Vec<(u16, SocketHandle)> = [CLOSES, RESETS, IS_SILENT, CUTS, CUTS_NEARER]
        .into_iter()
        .flat_map(|port| [port; AT_ONCE])
        .map(|port| (port, sockets.add(socket())))
        .collect();
    while !ends.load(Ordering::Relaxed) {
        for Flood { port, count } in floods.try_iter() {
            (0..count).for_each(|number| syn(&mut device, port, number));
        }
        interface.poll(Instant::now(), &mut device, &mut sockets);
        for (port, handle) in &all {
            serve(sockets.get_mut(*handle), *port);
        }
        interface.poll(Instant::now(), &mut device, &mut sockets);
        let delay = interface.poll_delay(Instant::now(), &sockets).map_or(BREATH, |delay| delay.min(BREATH));
        if wait(device.as_raw_fd(), Some(delay)).is_err() {
            return;
        }
        if has_come(&device) && let_pass(distance).is_err() {
            return;
        }
    }
}

/// Whether a packet is there to be read.
fn has_come(device: &TunTapInterface) -> bool {
    let mut entry = libc::pollfd { fd: device.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one live entry, and no time to wait.
    unsafe { libc::poll(&raw mut entry, 1, 0) > 0 }
}

/// From 10.55.0.100 to 10.55.0.199, and ports from 1024 on.
fn syn(device: &mut TunTapInterface, port: u16, number: u32) {
    let (host, from) = ((100 + number % 100) as u8, (1024 + number / 100 % 60_000) as u16);
    let (source, destination) = (Ipv4Address::new(10, 55, 0, host), Ipv4Address::new(10, 55, 0, 1));
    let tcp = TcpRepr {
        src_port: from,
        dst_port: port,
        control: TcpControl::Syn,
        seq_number: TcpSeqNumber(1),
        ack_number: None,
        window_len: 65_535,
        window_scale: None,
        max_seg_size: Some(1460),
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    let ip = Ipv4Repr {
        src_addr: source,
        dst_addr: destination,
        next_header: IpProtocol::Tcp,
        payload_len: tcp.buffer_len(),
        hop_limit: 64,
    };
    let checksums = ChecksumCapabilities::default();
    let Some(token) = device.transmit(Instant::now()) else { return };
    token.consume(ip.buffer_len() + tcp.buffer_len(), |bytes| {
        let mut packet = Ipv4Packet::new_unchecked(bytes);
        ip.emit(&mut packet, &checksums);
        let mut segment = TcpPacket::new_unchecked(packet.payload_mut());
        tcp.emit(&mut segment, &source.into(), &destination.into(), &checksums);
    });
}

fn socket() -> Socket<'static> {
    let mut socket = Socket::new(buffer(), buffer());
    socket.set_hop_limit(Some(TTL - FARTHER));
    socket.set_ack_delay(None);
    socket
}

fn buffer() -> SocketBuffer<'static> {
    SocketBuffer::new(vec![0; BUFFER])
}

fn serve(socket: &mut Socket<'_>, port: u16) {
    if port == CUTS && socket.state() == State::SynReceived {
        // Interrupted, it resets at once.
        let _ = let_pass(SOON);
        socket.abort();
        return;
    }
    if !socket.is_open() {
        // A closed socket may always listen.
        let _ = socket.listen(port);
        socket.set_hop_limit(Some(TTL - FARTHER));
    }
    if !socket.can_recv() {
        // nginx has closed its end.
        if socket.is_active() && !socket.may_recv() && socket.may_send() {
            socket.close();
        }
        return;
    }
    let read = socket.recv(|bytes| (bytes.len(), bytes.len()));
    match port {
        _ if read.is_err() => {}
        CLOSES => socket.close(),
        RESETS => socket.abort(),
        CUTS_NEARER => {
            // The acknowledgement is on its way.
            socket.set_hop_limit(Some(TTL - NEARER));
            socket.abort();
        }
        _ => {}
    }
}
