//! What an upstream does with one connection: a short list of steps. A fault is a script.

use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use crate::stream::Stream;
use crate::upstream::Shared;

/// One thing that an upstream does.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Reads one whole request: head and body.
    Request,
    /// Reads a request's head and leaves its body unread.
    Head,
    /// Reads this many bytes.
    Read(usize),
    /// Waits for the first bytes of the next request and leaves them unread.
    Await,
    /// Sends a whole healthy answer that allows keepalive.
    Respond,
    /// Sends exactly this text.
    Send(&'static str),
    /// Sends exactly these bytes.
    Bytes(&'static [u8]),
    /// Sends this many bytes of filler.
    Fill(usize),
    /// Waits for the first bytes of a request; if its path starts so, the rest of the connection follows these steps.
    When(&'static str, &'static [Step]),
    /// Stands still for so many milliseconds.
    Idle(u64),
    /// Stands still until the scenario opens the gate.
    Gate,
    /// Closes: FIN, or RST where the kernel has bytes that nobody read.
    Close,
    /// Ends the sending side only: FIN, whatever was left unread.
    Finish,
    /// Closes with RST.
    Reset,
    /// Keeps the connection open, and silent, until nginx closes it.
    Hold,
    /// From the first step again, until nginx closes.
    Repeat,
}

/// The answer that healthy upstreams give.
pub const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n";

/// Serves request after request.
pub const HEALTHY: &[Step] = &[Step::Request, Step::Respond, Step::Repeat];

/// Whether the connection goes on after a step.
#[derive(PartialEq, Eq)]
enum Next {
    Step,
    Repeat,
    End,
}

/// Plays `steps` on a connection until it ends. An error is nginx having closed first, which is nobody's fault.
pub(crate) fn play(mut stream: Stream, steps: &[Step], shared: &Shared) -> Result<()> {
    let mut pending = Vec::new();
    loop {
        let mut all = steps.iter();
        let again = loop {
            let Some(step) = all.next() else { break Next::End };
            if let Step::When(prefix, other) = step {
                if peek_path(&mut stream, &mut pending, shared)?.starts_with(prefix) {
                    all = other.iter();
                }
                continue;
            }
            match perform(&mut stream, *step, &mut pending, shared)? {
                Next::Step => {}
                other => break other,
            }
        };
        if again != Next::Repeat {
            return Ok(());
        }
    }
}

fn perform(stream: &mut Stream, step: Step, pending: &mut Vec<u8>, shared: &Shared) -> Result<Next> {
    match step {
        Step::Request => {
            let length = head(stream, pending, shared)?;
            body(stream, pending, length, shared)?;
            shared.requests.fetch_add(1, Ordering::SeqCst);
        }
        Step::Head => {
            head(stream, pending, shared)?;
            shared.requests.fetch_add(1, Ordering::SeqCst);
        }
        Step::Read(count) => {
            let mut chunk = vec![0; count];
            let mut filled = 0;
            while filled < count {
                filled += read(stream, &mut chunk[filled..], shared)?;
            }
        }
        Step::Await => drop(peek(stream, pending, shared)?),
        Step::Respond => stream.write_all(ANSWER.as_bytes())?,
        Step::Send(text) => stream.write_all(text.as_bytes())?,
        Step::Bytes(bytes) => stream.write_all(bytes)?,
        Step::Fill(count) => stream.write_all(&vec![b'x'; count])?,
        Step::Idle(millis) => crate::wait::let_pass(Duration::from_millis(millis))?,
        Step::Gate => shared.gate.pass(shared)?,
        Step::Close => return Ok(Next::End),
        Step::Finish => stream.finish()?,
        Step::Reset => {
            stream.reset_on_close()?;
            return Ok(Next::End);
        }
        Step::Hold => {
            let mut chunk = [0; 16384];
            while read(stream, &mut chunk, shared)? > 0 {}
        }
        Step::Repeat => return Ok(Next::Repeat),
        Step::When(..) => unreachable!("handled by play()"),
    }
    Ok(Next::Step)
}

/// Reads up to the end of a request's head; says how long its body will be, `None` for a chunked one.
fn head(stream: &mut Stream, pending: &mut Vec<u8>, shared: &Shared) -> Result<Option<usize>> {
    loop {
        if let Some(end) = pending.windows(4).position(|window| window == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&pending[..end]).to_ascii_lowercase();
            pending.drain(..end + 4);
            if text.contains("\r\ntransfer-encoding: chunked") {
                return Ok(None);
            }
            let length = text.split("\r\ncontent-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
            return Ok(Some(length.unwrap_or(0)));
        }
        more(stream, pending, shared)?;
    }
}

fn body(stream: &mut Stream, pending: &mut Vec<u8>, length: Option<usize>, shared: &Shared) -> Result<()> {
    match length {
        Some(length) => {
            while pending.len() < length {
                more(stream, pending, shared)?;
            }
            pending.drain(..length);
        }
        None => {
            while !pending.ends_with(b"0\r\n\r\n") {
                more(stream, pending, shared)?;
            }
            pending.clear();
        }
    }
    Ok(())
}

fn more(stream: &mut Stream, pending: &mut Vec<u8>, shared: &Shared) -> Result<()> {
    let mut chunk = [0; 16384];
    let count = read(stream, &mut chunk, shared)?;
    pending.extend_from_slice(&chunk[..count]);
    Ok(())
}

/// Reads at least a byte; an end of file is an error that ends the script.
fn read(stream: &mut Stream, chunk: &mut [u8], shared: &Shared) -> Result<usize> {
    let count = stream.receive(chunk, shared)?;
    ensure!(count > 0, "nginx closed the connection");
    Ok(count)
}

/// The bytes that wait in the socket, left there; under TLS, the first bytes of the next request, kept for later.
fn peek(stream: &mut Stream, pending: &mut Vec<u8>, shared: &Shared) -> Result<Vec<u8>> {
    if let Stream::Tls(_) = stream {
        if pending.is_empty() {
            more(stream, pending, shared)?;
        }
        return Ok(pending.clone());
    }
    let fd = stream.as_fd().as_raw_fd();
    shared.readable(fd)?;
    let mut chunk = vec![0_u8; 4096];
    // SAFETY: the buffer is live and of the length given.
    let count = unsafe { libc::recv(fd, chunk.as_mut_ptr().cast(), chunk.len(), libc::MSG_PEEK) };
    let Ok(count) = usize::try_from(count) else { bail!("recv: {}", std::io::Error::last_os_error()) };
    ensure!(count > 0, "nginx closed the connection");
    chunk.truncate(count);
    Ok(chunk)
}

fn peek_path(stream: &mut Stream, pending: &mut Vec<u8>, shared: &Shared) -> Result<String> {
    let bytes = peek(stream, pending, shared)?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.split_whitespace().nth(1).unwrap_or_default().to_owned())
}
