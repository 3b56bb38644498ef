//! Which nginx: the program, its version, and the root directory that it lives in if that is not the host's.

use std::ffi::CString;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// Where the program is in a root directory of its own.
const IN_A_ROOT: &str = "/usr/sbin/nginx";

/// The numbers of `nginx version: nginx/1.22.1`, as far as there are three.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u16, pub u16, pub u16);

impl Version {
    /// `-e`, the error log before the configuration is read (nginx's CHANGES, 1.19.5).
    pub const ERROR_LOG_OPTION: Self = Self(1, 19, 5);

    /// Out of what `nginx -V` says.
    fn said(text: &str) -> Option<Self> {
        let (_, version) = text.split_once("version: ")?.1.split_once('/')?;
        let mut numbers = version.split(|letter: char| !letter.is_ascii_digit()).map(str::parse);
        let mut number = || numbers.next()?.ok();
        Some(Self(number()?, number()?, number()?))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(major, minor, patch) = self;
        write!(formatter, "{major}.{minor}.{patch}")
    }
}

/// An nginx that can be started.
#[derive(Clone, Debug)]
pub struct Program {
    /// As seen in its root directory.
    path: PathBuf,
    root: Option<PathBuf>,
    version: Version,
    /// What `nginx -V` said.
    said: String,
}

impl Program {
    /// On the host; a name without directories is looked up, in the system directories too.
    pub fn on_host(path: &Path) -> Result<Self> {
        let listed = std::env::var_os("PATH").unwrap_or_default();
        let system = ["/usr/sbin", "/usr/local/sbin", "/usr/local/nginx/sbin"].map(PathBuf::from);
        let found = std::env::split_paths(&listed).chain(system).map(|dir| dir.join(path)).find(|path| path.is_file());
        let found = found
            .with_context(|| format!("no nginx found as {}; install it or name it with --nginx", path.display()))?;
        Self::asked(found, None)
    }

    /// In another root directory, which must hold all that it needs but /dev and the temporary directory.
    pub fn in_root(root: &Path) -> Result<Self> {
        let root = root.canonicalize().with_context(|| format!("--nginx-root {}", root.display()))?;
        Self::asked(IN_A_ROOT.into(), Some(root))
    }

    fn asked(path: PathBuf, root: Option<PathBuf>) -> Result<Self> {
        let mut program = Self { path, root, version: Version(0, 0, 0), said: String::new() };
        let output = program.command()?.arg("-V").stdin(Stdio::null()).output();
        let output = output.with_context(|| format!("running {} -V", program.path.display()))?;
        program.said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{} -V: {}: {}", program.path.display(), output.status, program.said.trim());
        let version = Version::said(&program.said);
        program.version = version.with_context(|| format!("no version in what it says: {}", program.said.trim()))?;
        Ok(program)
    }

    /// The program without arguments.
    pub fn command(&self) -> Result<Command> {
        let mut command = Command::new(&self.path);
        if let Some(root) = &self.root {
            enter(&mut command, root)?;
        }
        Ok(command)
    }

    /// Its version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The name of its file.
    pub fn name(&self) -> &str {
        self.path.file_name().and_then(|name| name.to_str()).unwrap_or("nginx")
    }

    /// The same as a file of this name in `directory`, which its root directory shares with the host: whoever looks for the name
    /// finds no other nginx.
    pub fn copied(&self, directory: &Path, name: &str) -> Result<Self> {
        let path = directory.join(name);
        let from = self.path.to_str().map(|path| self.outside(path)).context("the path of nginx")?;
        fs::copy(&from, &path).with_context(|| format!("copying {} to {}", from.display(), path.display()))?;
        Ok(Self { path, ..self.clone() })
    }

    /// The same in `directory`, without the names of the functions that why502 probes: nothing else is different.
    pub fn nameless(&self, directory: &Path) -> Result<Self> {
        let program = self.copied(directory, "nginx")?;
        let mut bytes = fs::read(&program.path)?;
        for name in ["ngx_log_error_core", "ngx_http_special_response_handler"] {
            let name = [b"\0", name.as_bytes(), b"\0"].concat();
            let found = bytes.windows(name.len()).position(|window| window == name);
            let first = found.with_context(|| format!("{} exports no such name", self.path.display()))? + 1;
            bytes[first] = b'x';
        }
        fs::write(&program.path, bytes)?;
        Ok(program)
    }

    /// Its root directory, if that is not the host's.
    pub fn root(&self) -> Option<&Path> {
        self.root.as_deref()
    }

    /// Where the host finds what it calls `path`, an absolute path.
    pub fn outside(&self, path: &str) -> PathBuf {
        match &self.root {
            Some(root) => root.join(path.trim_start_matches('/')),
            None => path.into(),
        }
    }

    /// Whether it was built with these words.
    pub fn built_with(&self, words: &str) -> bool {
        self.said.contains(words)
    }
}

/// Makes `command` start with `root` as its root directory, in a mount namespace of its own as in a container; /dev and
/// the temporary directory are the host's.
fn enter(command: &mut Command, root: &Path) -> Result<()> {
    let temporary = std::env::temp_dir();
    let inside = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
    let shared = [Path::new("/dev"), &temporary].map(|path| (path.to_owned(), inside(path)));
    let mut binds = vec![(c_path(root)?, c_path(root)?)];
    for (from, to) in shared {
        fs::create_dir_all(&to).with_context(|| format!("making {}", to.display()))?;
        binds.push((c_path(&from)?, c_path(&to)?));
    }
    let root = c_path(root)?;
    // SAFETY: between fork and exec only system calls are made, on strings that the closure owns; the mounts are private
    // to the child's own namespace and end with it.
    unsafe {
        command.pre_exec(move || {
            let private = libc::MS_REC | libc::MS_PRIVATE;
            done(libc::unshare(libc::CLONE_NEWNS))?;
            done(libc::mount(std::ptr::null(), c"/".as_ptr(), std::ptr::null(), private, std::ptr::null()))?;
            for (from, to) in &binds {
                let flags = libc::MS_BIND | libc::MS_REC;
                done(libc::mount(from.as_ptr(), to.as_ptr(), std::ptr::null(), flags, std::ptr::null()))?;
            }
            done(libc::chdir(root.as_ptr()))?;
            // pivot_root(2): with both in one place the old root lies over the new one until it is taken off.
            let pivoted = libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr());
            done(if pivoted == 0 { 0 } else { -1 })?;
            done(libc::umount2(c".".as_ptr(), libc::MNT_DETACH))?;
            done(libc::chdir(c"/".as_ptr()))
        });
    }
    Ok(())
}

fn done(code: libc::c_int) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn c_path(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes()).with_context(|| format!("{} has a NUL in it", path.display()))
}

#[cfg(test)]
mod tests {
    use super::Version;

    #[test]
    fn versions_are_numbers_and_compare_as_such() {
        let read = |text| Version::said(text);
        assert_eq!(read("nginx version: nginx/1.22.1\nbuilt with gcc"), Some(Version(1, 22, 1)));
        assert_eq!(read("nginx version: openresty/1.21.4.1\n"), Some(Version(1, 21, 4)));
        assert_eq!(read("nginx version: nginx/1.9.15 (Ubuntu)"), Some(Version(1, 9, 15)));
        assert!(read("nginx version: nginx/1.9.15") < read("nginx version: nginx/1.18.0"));
        for none in ["", "nginx", "nginx version: nginx/", "nginx version: nginx/1.2", "version: nginx/x.y.z"] {
            assert_eq!(read(none), None, "{none}");
        }
    }
}
