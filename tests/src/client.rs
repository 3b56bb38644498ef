//! A small HTTP/1.1 client: it knows exactly what it sent and got, and never waits for ever.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// No scenario makes a client wait longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A request to send.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Method.
    pub method: &'a str,
    /// Path and query.
    pub uri: &'a str,
    /// Length of the body; it is filler.
    pub body: usize,
    /// More headers, each with CRLF.
    pub headers: &'a str,
    /// Whether the connection is to stay open.
    pub keepalive: bool,
}

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Whether the body was whole.
    pub complete: bool,
    /// Whether the connection can be used again.
    pub reusable: bool,
}

/// A connection to nginx.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    /// Connects.
    pub fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(10)).context("connecting to nginx")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Sends a request and leaves the answer for later.
    pub fn send(&mut self, request: &Request<'_>) -> Result<()> {
        let Request { method, uri, body, headers, keepalive } = request;
        let connection = if *keepalive { "keep-alive" } else { "close" };
        let mut text = format!("{method} {uri} HTTP/1.1\r\nHost: lab\r\nConnection: {connection}\r\n{headers}");
        if *body > 0 {
            text.push_str(&format!("Content-Length: {body}\r\n"));
        }
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        bytes.resize(bytes.len() + body, b'b');
        self.stream.get_mut().write_all(&bytes).context("sending")
    }

    /// Sends a request and reads the answer.
    pub fn exchange(&mut self, request: &Request<'_>) -> Result<Answer> {
        // nginx may answer before it has read the whole body, and close: the answer counts.
        let sent = self.send(request);
        self.receive(request.method).or_else(|error| sent.and(Err(error)))
    }

    /// Reads the answer to a GET, which is one of this status.
    pub fn answers(&mut self, status: u16) -> Result<()> {
        let answer = self.receive("GET")?.status;
        ensure!(answer == status, "the answer is {answer}, and should be {status}");
        Ok(())
    }

    /// Reads an answer to a request with this method.
    pub fn receive(&mut self, method: &str) -> Result<Answer> {
        let (status, head) = loop {
            let (status, head) = self.head()?;
            if status != 100 {
                break (status, head);
            }
        };
        let field = |name: &str| {
            let line = head.iter().find(|line| line.to_ascii_lowercase().starts_with(name));
            line.map(|line| line[name.len()..].trim().to_ascii_lowercase())
        };
        let mut close = field("connection:").is_some_and(|value| value == "close");
        let complete = if method == "HEAD" || status == 204 || status == 304 {
            true
        } else if field("transfer-encoding:").as_deref() == Some("chunked") {
            self.chunks().unwrap_or(false)
        } else if let Some(length) = field("content-length:") {
            let length: u64 = length.parse().context("Content-Length")?;
            let copied = std::io::copy(&mut (&mut self.stream).take(length), &mut std::io::sink());
            copied.is_ok_and(|copied| copied == length)
        } else {
            close = true;
            std::io::copy(&mut self.stream, &mut std::io::sink()).is_ok()
        };
        Ok(Answer { status, complete, reusable: complete && !close })
    }

    fn head(&mut self) -> Result<(u16, Vec<String>)> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            ensure!(self.stream.read_line(&mut line).context("reading the answer")? > 0, "nginx closed without answer");
            if line == "\r\n" {
                break;
            }
            lines.push(line);
        }
        let first = lines.first().context("an empty answer")?;
        let status = first.split_whitespace().nth(1).and_then(|status| status.parse().ok());
        let Some(status) = status else { bail!("no status in {first:?}") };
        Ok((status, lines))
    }

    fn chunks(&mut self) -> Result<bool> {
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                return Ok(false);
            }
            let size = u64::from_str_radix(line.trim(), 16).context("chunk size")?;
            let mut chunk = (&mut self.stream).take(size + 2);
            if std::io::copy(&mut chunk, &mut std::io::sink())? != size + 2 {
                return Ok(false);
            }
            if size == 0 {
                return Ok(true);
            }
        }
    }

    /// The socket, for what HTTP has no word for.
    pub fn stream(&mut self) -> &mut TcpStream {
        self.stream.get_mut()
    }
}
