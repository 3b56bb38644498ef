//! Private network namespaces, without names: they vanish with the last descriptor, however the lab ends.

use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};

use crate::child;

/// A network namespace of our own, with `lo` up.
#[derive(Clone, Debug)]
pub struct Namespace {
    fd: Arc<OwnedFd>,
}

impl Namespace {
    /// Makes one.
    pub fn new() -> Result<Self> {
        let made = std::thread::scope(|scope| {
            let thread = scope.spawn(|| -> Result<OwnedFd> {
                // SAFETY: unshare(2) takes an integer; it changes only this thread, which ends right after.
                let code = unsafe { libc::unshare(libc::CLONE_NEWNET) };
                ensure!(code == 0, "unshare(CLONE_NEWNET): {}", std::io::Error::last_os_error());
                loopback_up()?;
                Ok(File::open("/proc/thread-self/ns/net").context("opening the new namespace")?.into())
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
        Ok(Self { fd: Arc::new(made) })
    }

    /// The descriptor that keeps it alive.
    pub fn fd(&self) -> &Arc<OwnedFd> {
        &self.fd
    }

    /// Runs `work` on a thread inside the namespace; sockets made there stay there.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                join(&self.fd)?;
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Writes `/proc/sys/net/…` as seen in the namespace.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/net/{}", name.replace('.', "/"));
        self.enter(|| fs::write(&path, value).with_context(|| format!("writing {value} to {path}")))
    }

    /// Runs `ip WORDS` inside the namespace.
    pub fn ip(&self, words: &str) -> Result<()> {
        let mut command = Command::new("ip");
        command.args(words.split_whitespace()).stderr(std::process::Stdio::piped());
        let status = child::start("ip", &mut command, Some(&self.fd))?.wait(crate::wait::SOON)?;
        ensure!(status.success(), "ip {words}: {status}");
        Ok(())
    }

    /// Runs these commands of nft inside the namespace, all or none.
    pub fn nft(&self, commands: &str) -> Result<()> {
        let mut command = Command::new("nft");
        let status = child::start("nft", command.arg(commands), Some(&self.fd))?.wait(crate::wait::SOON)?;
        ensure!(status.success(), "nft {commands}: {status}");
        Ok(())
    }

    /// A path under which other processes can name it while it lives.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.fd.as_raw_fd())
    }
}

/// Moves the calling thread into a namespace.
pub fn join(namespace: &OwnedFd) -> Result<()> {
    // SAFETY: the descriptor is open, and setns(2) touches no memory of ours.
    let code = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
    if code != 0 {
        bail!("setns: {}", std::io::Error::last_os_error());
    }
    Ok(())
}

fn loopback_up() -> Result<()> {
    // SAFETY: the request is a zeroed ifreq naming "lo"; the kernel reads and writes only within it.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        ensure!(socket >= 0, "socket: {}", std::io::Error::last_os_error());
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, letter) in request.ifr_name.iter_mut().zip(*b"lo") {
            // Signed or not as the processor has it.
            *to = letter as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING)?;
        let code = libc::ioctl(socket, libc::SIOCSIFFLAGS as _, &raw mut request);
        let error = std::io::Error::last_os_error();
        libc::close(socket);
        ensure!(code == 0, "bringing lo up: {error}");
    }
    Ok(())
}

/// Two namespaces joined by a cable: nginx's, and a router's behind which some networks fail each in their way.
#[derive(Debug)]
pub struct Routed {
    /// nginx and its clients: `near`, 10.77.0.1/24. Its own routes refuse 10.88.1.0/24 (prohibit), 10.88.2.0/24
    /// (unreachable) and 10.88.3.0/24 (blackhole), and there is none to anywhere else.
    pub near: Namespace,
    /// The router and upstreams: `far`, 10.77.0.2/24; 10.77.1.0/24 is unreachable, 10.77.2.0/24 prohibited,
    /// 10.77.3.0/24 swallowed without a word. 10.77.0.9 does not exist.
    pub far: Namespace,
}

impl Routed {
    /// A process that lives on the router's side while its guard does: without one, `far` is another host as far as can be seen.
    pub fn inhabited(&self) -> Result<child::Guarded> {
        let mut command = Command::new("ip");
        command.args(["monitor", "link"]).stdout(std::process::Stdio::null());
        child::start("ip monitor", &mut command, Some(self.far.fd()))
    }

    /// Builds the two, with iproute2.
    pub fn new() -> Result<Self> {
        let near = Namespace::new()?;
        let far = Namespace::new()?;
        near.ip(&format!("link add near type veth peer name far netns {}", far.path()))?;
        for (namespace, name, address) in [(&near, "near", "10.77.0.1/24"), (&far, "far", "10.77.0.2/24")] {
            namespace.ip(&format!("address add {address} dev {name}"))?;
            namespace.ip(&format!("link set {name} up"))?;
        }
        near.ip("route add 10.77.0.0/16 via 10.77.0.2")?;
        for (kind, network) in [("prohibit", 1), ("unreachable", 2), ("blackhole", 3)] {
            near.ip(&format!("route add {kind} 10.88.{network}.0/24"))?;
        }
        for (kind, network) in [("unreachable", 1), ("prohibit", 2), ("blackhole", 3)] {
            far.ip(&format!("route add {kind} 10.77.{network}.0/24"))?;
        }
        far.sysctl("ipv4.ip_forward", "1")?;
        far.sysctl("ipv4.icmp_ratelimit", "0")?;
        Ok(Self { near, far })
    }
}
