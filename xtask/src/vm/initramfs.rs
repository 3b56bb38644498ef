//! What is in the machine: files, programs with their libraries, directories. All of it in memory, nothing on a disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::BufWriter;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};

use super::{cpio, libraries};

/// On a machine whose `/usr` is merged, programs and libraries are known under both names.
const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];

#[derive(Debug, Default)]
pub(super) struct Image {
    /// By path in the machine, sorted: a directory comes before what is in it.
    entries: BTreeMap<PathBuf, Entry>,
    /// Host paths whose libraries have been looked up.
    seen: BTreeSet<PathBuf>,
}

#[derive(Debug)]
enum Entry {
    Directory,
    SharedDirectory,
    Copy { from: PathBuf, mode: u32 },
    Text(Vec<u8>),
    Link(String),
}

impl Image {
    pub(super) fn new() -> Self {
        let mut image = Self::default();
        for name in MERGED {
            image.insert(&Path::new("/usr").join(name), Entry::Directory);
            image.entries.insert(Path::new("/").join(name), Entry::Link(format!("usr/{name}")));
        }
        for path in ["/dev", "/proc", "/sys", "/run", "/root", "/etc"] {
            image.insert(Path::new(path), Entry::Directory);
        }
        for path in ["/tmp", "/var/tmp"] {
            image.insert(Path::new(path), Entry::SharedDirectory);
        }
        image
    }

    /// A file or a program or a directory with all that is in it, where it is on this host.
    pub(super) fn include(&mut self, path: &Path) -> Result<()> {
        if path.is_dir() { self.directory(path) } else { self.program(path) }
    }

    pub(super) fn file(&mut self, path: &Path) -> Result<()> {
        self.copy(path, path)
    }

    /// A file with the libraries it needs, if any.
    pub(super) fn program(&mut self, path: &Path) -> Result<()> {
        self.program_as(path, path)
    }

    pub(super) fn program_as(&mut self, from: &Path, to: &Path) -> Result<()> {
        self.copy(from, to)?;
        let executable = fs::metadata(from).is_ok_and(|data| data.permissions().mode() & 0o111 != 0);
        let library = from.extension().is_some_and(|extension| extension == "so");
        if (executable || library) && self.seen.insert(from.into()) {
            for library in libraries(from)? {
                self.copy(&library, &library)?;
            }
        }
        Ok(())
    }

    pub(super) fn directory(&mut self, path: &Path) -> Result<()> {
        self.empty_directory(path)?;
        for entry in fs::read_dir(path).with_context(|| format!("reading {}", path.display()))? {
            let entry = entry.with_context(|| format!("reading {}", path.display()))?.path();
            // Links to nothing, sockets and the like stay behind.
            if entry.is_dir() || entry.is_file() {
                self.include(&entry)?;
            }
        }
        Ok(())
    }

    /// All that is below `root`, as if that were the machine's root directory; links stay links.
    pub(super) fn tree(&mut self, root: &Path) -> Result<()> {
        self.branch(root, Path::new("/"))
    }

    fn branch(&mut self, from: &Path, to: &Path) -> Result<()> {
        for entry in fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
            let entry = entry.with_context(|| format!("reading {}", from.display()))?;
            let (from, to) = (entry.path(), to.join(entry.file_name()));
            let kind = entry.file_type().with_context(|| format!("reading {}", from.display()))?;
            if kind.is_symlink() {
                let target = fs::read_link(&from).with_context(|| format!("reading {}", from.display()))?;
                self.insert(&to, Entry::Link(target.to_string_lossy().into_owned()));
            } else if kind.is_dir() {
                self.insert(&to, Entry::Directory);
                self.branch(&from, &to)?;
            } else if kind.is_file() {
                self.copy(&from, &to)?;
            }
        }
        Ok(())
    }

    pub(super) fn empty_directory(&mut self, path: &Path) -> Result<()> {
        self.insert(path, Entry::Directory);
        Ok(())
    }

    pub(super) fn text(&mut self, path: &Path, content: Vec<u8>) {
        self.insert(path, Entry::Text(content));
    }

    fn copy(&mut self, from: &Path, to: &Path) -> Result<()> {
        let data = fs::metadata(from).with_context(|| format!("reading {}", from.display()))?;
        let mode = 0o100_000 | (data.permissions().mode() & 0o777);
        self.insert(to, Entry::Copy { from: from.into(), mode });
        Ok(())
    }

    /// Files replace each other, a directory never replaces anything; parents come to be.
    fn insert(&mut self, path: &Path, entry: Entry) {
        let path = normal(path);
        for parent in path.ancestors().skip(1).filter(|parent| parent.parent().is_some()) {
            self.entries.entry(parent.into()).or_insert(Entry::Directory);
        }
        match entry {
            Entry::Directory => {
                self.entries.entry(path).or_insert(entry);
            }
            _ => {
                self.entries.insert(path, entry);
            }
        }
    }

    /// The archive, as the kernel wants it.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
        let mut archive = cpio::Writer::new(BufWriter::new(file));
        for (path, entry) in &self.entries {
            let name = path.to_string_lossy();
            let name = name.trim_start_matches('/');
            match entry {
                Entry::Directory => archive.entry(name, cpio::DIRECTORY, &[]),
                Entry::SharedDirectory => archive.entry(name, cpio::SHARED_DIRECTORY, &[]),
                Entry::Link(target) => archive.entry(name, cpio::SYMLINK, target.as_bytes()),
                Entry::Text(content) => archive.entry(name, cpio::PROGRAM, content),
                Entry::Copy { from, mode } => {
                    let content = fs::read(from).with_context(|| format!("reading {}", from.display()))?;
                    archive.entry(name, *mode, &content)
                }
            }
            .with_context(|| format!("packing {}", path.display()))?;
        }
        // The kernel opens it for init before anything is mounted.
        archive.device("dev/console", 5, 1).context("packing /dev/console")?;
        archive.finish().with_context(|| format!("writing {}", path.display()))
    }
}

/// Absolute, without `.` and `..`, and below `/usr` what is there.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => normal.push(name),
            Component::ParentDir => {
                normal.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    let merged = |name: &str| normal.strip_prefix(Path::new("/").join(name)).is_ok_and(|rest| rest != Path::new(""));
    if MERGED.iter().any(|name| merged(name)) {
        return Path::new("/usr").join(normal.strip_prefix("/").unwrap_or(&normal));
    }
    normal
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Entry, Image, normal};

    #[test]
    fn a_tree_keeps_its_links_and_merges_usr() {
        let root = std::env::temp_dir().join(format!("tree-{}", std::process::id()));
        std::fs::create_dir_all(root.join("bin")).unwrap();
        std::fs::write(root.join("bin/dash"), "").unwrap();
        std::os::unix::fs::symlink("dash", root.join("bin/sh")).unwrap();
        std::os::unix::fs::symlink("usr/lib", root.join("lib")).unwrap();
        let mut image = Image::new();
        image.tree(&root).unwrap();
        std::fs::remove_dir_all(root).unwrap();
        let entry = |path: &str| image.entries.get(Path::new(path));
        assert!(matches!(entry("/usr/bin/dash"), Some(Entry::Copy { .. })));
        assert!(matches!(entry("/usr/bin/sh"), Some(Entry::Link(target)) if target == "dash"));
        assert!(matches!(entry("/lib"), Some(Entry::Link(target)) if target == "usr/lib"));
        assert!(matches!(entry("/bin"), Some(Entry::Link(target)) if target == "usr/bin"), "{:?}", entry("/bin"));
    }

    #[test]
    fn paths_are_made_absolute_and_usr_is_merged() {
        for (path, expected) in [
            ("/bin/sh", "/usr/bin/sh"),
            ("/lib64/ld-linux-x86-64.so.2", "/usr/lib64/ld-linux-x86-64.so.2"),
            ("/lib64", "/lib64"),
            ("/work/x/../y/./z", "/work/y/z"),
            ("/library/x", "/library/x"),
        ] {
            assert_eq!(normal(Path::new(path)), Path::new(expected), "{path}");
        }
    }
}
