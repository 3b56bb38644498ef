//! Unix sockets that listen, as the kernel lists them: NETLINK_SOCK_DIAG, or /proc/PID/net/unix where it cannot.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader},
    os::unix::ffi::OsStrExt as _,
};

use netlink_packet_core::Emitable as _;
use netlink_packet_sock_diag::{
    SockDiagMessage,
    unix::{
        ShowFlags, StateFlags, UnixRequest, UnixResponse,
        nlas::{Nla, UnixDiagName},
    },
};

use super::walk::FileId;
use crate::context::{
    namespaces::{Snapshot, enter, netns},
    sock_diag,
};

const SOCK_STREAM: u8 = 1;
/// __SO_ACCEPTCON, include/uapi/linux/net.h: the flags of /proc/net/unix.
const ACCEPTS: u32 = 1 << 16;

/// What a socket is bound to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Bound {
    /// The path, as it was given to bind(2).
    Path(String),
    Abstract(Vec<u8>),
    Nothing,
}

/// One that listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    pub inode: u64,
    /// Inode of its network namespace.
    pub netns: u64,
    pub bound: Bound,
    /// The file that bind(2) made: `st_dev` as a file system without subvolumes has it, and 32 bits of `st_ino`.
    pub file: Option<FileId>,
    /// What listen(2) was given, or net.core.somaxconn where that is less; one connection more fits in.
    pub limit: Option<u32>,
    /// Connections that were not accepted yet, at this moment.
    pub queued: Option<u32>,
}

/// All that listen in these namespaces and in that of process `pid`, and the latter's inode. Changes the network
/// namespace of the calling thread: for threads that do nothing else.
///
/// A path leads to a socket of any network namespace (unix_find_bsd(), net/unix/af_unix.c, v6.12).
pub fn listeners(pid: u32, namespaces: &Snapshot) -> (Vec<Listener>, Option<u64>) {
    let own = netns(pid);
    let all = namespaces.with(own.map(|netns| (netns, pid)));
    let found = all.into_iter().flat_map(|(netns, pid)| inside(netns, pid).unwrap_or_default());
    (found.collect(), own)
}

/// net.core.somaxconn of the network namespace of process `pid`; as [`listeners`], for threads that do nothing else.
pub fn somaxconn(pid: u32) -> Option<u32> {
    enter(pid).ok()?;
    fs::read_to_string("/proc/sys/net/core/somaxconn").ok()?.trim().parse().ok()
}

fn inside(netns: u64, pid: u32) -> io::Result<Vec<Listener>> {
    enter(pid).and_then(|()| dump(netns)).or_else(|_| table(netns, pid))
}

/// Asks the kernel about the namespace that the thread is in.
fn dump(netns: u64) -> io::Result<Vec<Listener>> {
    let show = ShowFlags::NAME | ShowFlags::VFS | ShowFlags::RQLEN;
    all(StateFlags::LISTEN, show, |response| listener(netns, response))
}

/// Inodes of connections that somebody accepted from a listener bound to this, of the namespace that the thread is in.
pub fn accepted(from: &Bound) -> Vec<u64> {
    let inode = |response: &UnixResponse| {
        (response.header.inode != 0 && bound(response) == *from).then(|| u64::from(response.header.inode))
    };
    all(StateFlags::ESTABLISHED, ShowFlags::NAME, inode).unwrap_or_default()
}

fn all<T>(
    state_flags: StateFlags,
    show_flags: ShowFlags,
    wanted: impl Fn(&UnixResponse) -> Option<T>,
) -> io::Result<Vec<T>> {
    let request = UnixRequest { state_flags, inode: 0, show_flags, cookie: [0; 8] };
    sock_diag::dump(SockDiagMessage::UnixRequest(request), |message| match message {
        SockDiagMessage::UnixResponse(response) => wanted(&response),
        _ => None,
    })
}

fn bound(response: &UnixResponse) -> Bound {
    match response.name() {
        Some(UnixDiagName::Pathname(path)) => Bound::Path(String::from_utf8_lossy(path.as_bytes()).into_owned()),
        Some(UnixDiagName::Abstract(name)) => Bound::Abstract(name.clone()),
        None => Bound::Nothing,
    }
}

fn listener(netns: u64, response: &UnixResponse) -> Option<Listener> {
    if response.header.kind != SOCK_STREAM {
        return None;
    }
    let bound = bound(response);
    let file = response.nlas.iter().find_map(|attribute| {
        let Nla::Vfs(vfs) = attribute else { return None };
        let mut bytes = [0; 8];
        vfs.emit(&mut bytes);
        let [a, b, c, d, device @ ..] = bytes;
        let inode = u64::from(u32::from_ne_bytes([a, b, c, d]));
        Some(FileId { device: device_number(u32::from_ne_bytes(device)), inode })
    });
    Some(Listener {
        inode: u64::from(response.header.inode),
        netns,
        bound,
        file,
        limit: response.max_number_of_pending_connection(),
        queued: response.number_of_pending_connection(),
    })
}

/// The kernel's own device number (MINORBITS, include/linux/kdev_t.h) as stat(2) gives it.
fn device_number(internal: u32) -> u64 {
    rustix::fs::makedev(internal >> 20, internal & 0xf_ffff)
}

/// `ffff8880…: 00000002 00000000 00010000 0001 01 24541 /run/a.sock`: no numbers of the queue, no file.
fn table(netns: u64, pid: u32) -> io::Result<Vec<Listener>> {
    let file = BufReader::new(File::open(format!("/proc/{pid}/net/unix"))?);
    Ok(file.split(b'\n').map_while(Result::ok).filter_map(|line| row(netns, &String::from_utf8_lossy(&line))).collect())
}

fn row(netns: u64, line: &str) -> Option<Listener> {
    let mut fields = line.splitn(8, ' ').skip(3);
    let flags = u32::from_str_radix(fields.next()?, 16).ok()?;
    let kind = u8::from_str_radix(fields.next()?, 16).ok()?;
    if flags & ACCEPTS == 0 || kind != SOCK_STREAM {
        return None;
    }
    let rest = line.splitn(7, ' ').nth(6)?.trim_start();
    let (inode, bound) = rest.split_once(' ').unwrap_or((rest, ""));
    let bound = match bound.strip_prefix('@') {
        // A path that begins like this looks the same: told apart by nobody.
        Some(name) => Bound::Abstract(name.as_bytes().to_vec()),
        None if bound.is_empty() => Bound::Nothing,
        None => Bound::Path(bound.to_owned()),
    };
    Some(Listener { inode: inode.parse().ok()?, netns, bound, file: None, limit: None, queued: None })
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::MetadataExt as _, net::UnixListener};

    use super::{Bound, Snapshot, device_number, dump, listeners, row, table};

    #[test]
    fn rows_of_the_table() {
        let found =
            row(7, "00000000: 00000002 00000000 00010000 0001 01 24541 /run/with space.sock").expect("it listens");
        assert_eq!((found.inode, found.bound), (24541, Bound::Path("/run/with space.sock".into())));
        assert_eq!(row(7, "0: 2 0 00010000 0001 01 9 @x").expect("it listens").bound, Bound::Abstract(b"x".to_vec()));
        assert_eq!(row(7, "0: 2 0 00010000 0001 01   9").expect("it listens").bound, Bound::Nothing);
        for line in [
            "",
            "Num RefCount Protocol Flags Type St Inode Path",
            "0: 2 0 00010000 0005 01 9 /seqpacket",
            "0: 2 0 00000000 0001 03 9 /connected",
            "0: 2 0 00010000 0001 01 x /a",
        ] {
            assert_eq!(row(7, line), None, "{line}");
        }
    }

    #[test]
    fn our_own_listener() {
        let path = std::env::temp_dir().join(format!("why502-diag-{}.sock", std::process::id()));
        let listener = UnixListener::bind(&path).expect("bound");
        let file = std::fs::metadata(&path).expect("it is there");
        let bound = Bound::Path(path.to_string_lossy().into_owned());
        let ours = |found: &super::Listener| found.bound == bound;
        let in_table = table(7, std::process::id()).expect("it can be read");
        let in_table = in_table.iter().find(|found| ours(found)).expect("it listens");
        // Where the kernel has no sock_diag for them, there is nothing to compare.
        if let Ok(dumped) = dump(7) {
            let dumped = dumped.iter().find(|found| ours(found)).expect("it listens");
            assert_eq!(dumped.inode, in_table.inode);
            assert_eq!(dumped.file.map(|file| file.inode), Some(file.ino() & 0xffff_ffff));
            assert_eq!(dumped.queued, Some(0));
            assert!(dumped.limit.is_some_and(|limit| limit > 0));
        }
        let namespaces = Snapshot::read();
        let all = std::thread::spawn(move || listeners(std::process::id(), &namespaces)).join().expect("no panic");
        assert!(all.0.iter().any(|found| found.inode == in_table.inode && Some(found.netns) == all.1));
        drop(listener);
        std::fs::remove_file(path).expect("ours");
    }

    #[test]
    fn devices_are_those_of_stat() {
        assert_eq!(device_number(8 << 20 | 1), rustix::fs::makedev(8, 1));
        assert_eq!(device_number(25), 25);
    }
}
