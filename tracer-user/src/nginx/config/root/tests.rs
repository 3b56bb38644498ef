use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::{
    fs::{CWD, FileType, Mode, mknodat},
    process::getpid,
};

use super::{FILE, Root};
use crate::nginx::config::tree::{Files as _, read};

/// A directory that is gone at the end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("why502-root-{name}-{}", getpid().as_raw_nonzero()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("root/etc/conf.d")).unwrap();
        Self(path)
    }

    fn inside(&self, name: &str) -> PathBuf {
        self.0.join("root").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.inside(name), text).unwrap();
    }

    fn root(&self) -> Root {
        Root::at(self.0.join("root").to_str().unwrap()).unwrap()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn now_ns() -> i128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos().try_into().unwrap()
}

#[test]
fn links_do_not_lead_out() {
    let directory = Directory::new("links");
    fs::write(directory.0.join("secret"), "of the host").unwrap();
    directory.write("secret", "of the container");
    let outside = directory.0.join("secret");
    for (name, to) in [
        ("etc/absolute", Path::new("/secret")),
        ("etc/up", Path::new("../../../../../../../../secret")),
        ("etc/host", outside.as_path()),
        ("etc/circle", Path::new("circle")),
        ("etc/magic", Path::new("/proc/self/root/secret")),
    ] {
        symlink(to, directory.inside(name)).unwrap();
    }
    let mut root = directory.root();
    for name in ["/etc/absolute", "/etc/up", "etc/up", "/../../secret"] {
        assert_eq!(root.read(name).unwrap().bytes, b"of the container", "{name}");
    }
    for name in ["/etc/host", "/etc/circle", "/etc/magic", "/etc/none", "/secret/x", "", "/a\0b"] {
        assert!(root.read(name).is_err(), "{name}");
    }
}

#[test]
fn only_regular_files_are_read() {
    let directory = Directory::new("kinds");
    // Opening it would wait for a writer.
    mknodat(CWD, directory.inside("etc/pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    let mut root = directory.root();
    for name in ["/etc/pipe", "/etc"] {
        assert_eq!(root.read(name).unwrap_err(), "not a regular file", "{name}");
    }
    fs::File::create(directory.inside("etc/large")).unwrap().set_len(FILE + 1).unwrap();
    assert_eq!(root.read("/etc/large").unwrap_err(), "larger than what is read of a configuration");
    assert!(Root::of(u32::MAX).is_err());
}

#[test]
fn patterns_as_nginx_has_them() {
    let directory = Directory::new("patterns");
    for name in ["b.conf", "a.conf", ".hidden.conf", "a.conf~", "ü.conf"] {
        directory.write(&format!("etc/conf.d/{name}"), "x;");
    }
    fs::create_dir_all(directory.inside("etc/sites/one")).unwrap();
    directory.write("etc/sites/one/site.conf", "x;");
    // Out of the root, and in truth to its own etc.
    symlink("/etc", directory.inside("etc/sites/two")).unwrap();
    directory.write("etc/site.conf", "x;");
    let mut root = directory.root();
    for (pattern, expected) in [
        ("/etc/conf.d/*.conf", "/etc/conf.d/a.conf /etc/conf.d/b.conf /etc/conf.d/ü.conf"),
        ("/etc/conf.d/[ab]*", "/etc/conf.d/a.conf /etc/conf.d/a.conf~ /etc/conf.d/b.conf"),
        ("/etc/conf.d/?.conf", "/etc/conf.d/a.conf /etc/conf.d/b.conf /etc/conf.d/ü.conf"),
        ("/etc/sites/*/site.conf", "/etc/sites/one/site.conf /etc/sites/two/site.conf"),
        ("/none/*.conf", ""),
        ("/etc/conf.d/a.conf/*", ""),
    ] {
        assert_eq!(root.list(pattern).unwrap().names.join(" "), expected, "{pattern}");
    }
    for pattern in ["/etc/[", "/etc/\\*", "/etc/a**b"] {
        assert!(root.list(pattern).is_err(), "{pattern}");
    }
}

#[test]
fn changes_have_their_time() {
    let directory = Directory::new("times");
    directory.write("etc/a", "x;");
    let file = fs::File::options().write(true).open(directory.inside("etc/a")).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    // What was written long ago has come into its place just now.
    let recent =
        |time_ns: i128| (now_ns() - time_ns).abs() < i128::try_from(Duration::from_secs(600).as_nanos()).unwrap();
    assert!(recent(directory.root().read("/etc/a").unwrap().changed_ns));
    assert!(recent(directory.root().list("/etc/conf.d/*").unwrap().changed_ns));
    // A time to come, so that it cannot be the one of its making.
    let later = SystemTime::now() + Duration::from_secs(100_000);
    file.set_modified(later).unwrap();
    let later_ns = i128::try_from(later.duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap();
    assert_eq!(directory.root().read("/etc/a").unwrap().changed_ns, later_ns);
    symlink("a", directory.inside("etc/link")).unwrap();
    assert_eq!(directory.root().read("/etc/link").unwrap().changed_ns, later_ns);
}

/// The configuration that every Debian has, if it is here.
#[test]
fn a_stock_configuration_is_read_whole() {
    if !Path::new("/etc/nginx/nginx.conf").exists() {
        return;
    }
    let tree = read(&mut Root::of(std::process::id()).unwrap(), "/etc/nginx/nginx.conf", None).unwrap();
    assert_eq!(tree.problems, Vec::<String>::new());
    assert!(tree.main.iter().any(|directive| directive.name == "http" && directive.block.is_some()));
}
