//! Where nginx's logs go, and how the lab reads what went there.

use std::fs;
use std::io::{PipeReader, Read};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::upstream::open_to_all;

/// Where nginx's logs go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logs {
    /// Both to files.
    Files,
    /// The error log to standard error, a pipe.
    Stderr,
    /// The error log to a syslog daemon behind a unix datagram socket.
    Syslog,
    /// The error log to /dev/null: only the access log testifies.
    NoErrors,
    /// No access log: only what the clients were told testifies about statuses.
    NoAccess,
}

/// The error log while nginx runs.
#[derive(Debug)]
pub struct ErrorLog {
    text: Option<Arc<Mutex<Vec<u8>>>>,
    target: String,
    stderr: Option<std::io::PipeWriter>,
}

impl ErrorLog {
    /// Prepares the target; what comes over a pipe or a socket is collected from here on.
    pub fn open(logs: Logs, directory: &Path) -> Result<Self> {
        let file = |name: &str| format!("{}/{name}", directory.display());
        Ok(match logs {
            Logs::Files | Logs::NoAccess => Self { text: None, target: file("error.log"), stderr: None },
            Logs::NoErrors => Self { text: None, target: "/dev/null".into(), stderr: None },
            Logs::Stderr => {
                let (reader, writer) = std::io::pipe().context("a pipe for nginx's stderr")?;
                let text = Arc::default();
                collect_pipe(reader, &text)?;
                Self { text: Some(text), target: "stderr".into(), stderr: Some(writer) }
            }
            Logs::Syslog => {
                let path = directory.join("syslog.sock");
                let socket = UnixDatagram::bind(&path).with_context(|| format!("binding {}", path.display()))?;
                open_to_all(&path)?;
                let text = Arc::default();
                collect_datagrams(socket, &text)?;
                Self { text: Some(text), target: format!("syslog:server=unix:{}", path.display()), stderr: None }
            }
        })
    }

    /// The target as `error_log` wants it.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// nginx's standard error, where it is the log.
    pub fn stderr(&mut self) -> Option<Stdio> {
        self.stderr.take().map(Stdio::from)
    }

    /// What was collected; `None` where files, or nothing, hold the log.
    pub fn text(&self) -> Option<String> {
        let text = self.text.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        Some(String::from_utf8_lossy(&text).into_owned())
    }
}

fn append(text: &Mutex<Vec<u8>>, bytes: &[u8]) {
    text.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
}

/// Ends when nginx, which holds the other end, has ended.
fn collect_pipe(mut reader: PipeReader, text: &Arc<Mutex<Vec<u8>>>) -> Result<()> {
    let text = Arc::clone(text);
    let collect = move || {
        let mut chunk = [0; 16384];
        while let Ok(count @ 1..) = reader.read(&mut chunk) {
            append(&text, &chunk[..count]);
        }
    };
    std::thread::Builder::new().name("stderr".into()).spawn(collect).context("reading nginx's stderr")?;
    Ok(())
}

/// One line per datagram, until nobody wants the text any more.
fn collect_datagrams(socket: UnixDatagram, text: &Arc<Mutex<Vec<u8>>>) -> Result<()> {
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    let text = Arc::clone(text);
    let collect = move || {
        let mut chunk = [0; 16384];
        while Arc::strong_count(&text) > 1 {
            if let Ok(count) = socket.recv(&mut chunk) {
                append(&text, &chunk[..count]);
                append(&text, b"\n");
            }
        }
    };
    std::thread::Builder::new().name("syslog".into()).spawn(collect).context("reading syslog")?;
    Ok(())
}

/// A log file with what was rotated out of it before, as `NAME.1`.
pub fn file(path: &Path) -> String {
    let rotated = path.with_extension("log.1");
    let mut bytes = fs::read(rotated).unwrap_or_default();
    bytes.extend(fs::read(path).unwrap_or_default());
    String::from_utf8_lossy(&bytes).into_owned()
}
