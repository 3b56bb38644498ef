//! A connection from nginx, over TCP, TLS or a unix socket alike.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Result, ensure};
use rustls::{ServerConnection, StreamOwned};

use crate::upstream::Shared;

/// A connection from nginx.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Stream {
    /// Makes the coming close an RST.
    pub(crate) fn reset_on_close(&self) -> Result<()> {
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        let size = libc::socklen_t::try_from(size_of::<libc::linger>())?;
        // SAFETY: the socket is open and the option's value is a live `linger`.
        let code = unsafe {
            let value = std::ptr::from_ref(&linger).cast();
            libc::setsockopt(self.as_fd().as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, value, size)
        };
        ensure!(code == 0, "SO_LINGER: {}", std::io::Error::last_os_error());
        Ok(())
    }

    /// Ends the sending direction, under TLS with an alert that says so.
    pub(crate) fn finish(&mut self) -> Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write)?,
            Self::Unix(stream) => stream.shutdown(Shutdown::Write)?,
            Self::Tls(stream) => {
                stream.conn.send_close_notify();
                stream.flush()?;
                stream.sock.shutdown(Shutdown::Write)?;
            }
        }
        Ok(())
    }

    /// Waits for bytes and reads them; 0 is the end. An error when the upstream ends meanwhile.
    pub(crate) fn receive(&mut self, chunk: &mut [u8], shared: &Shared) -> Result<usize> {
        let Self::Tls(stream) = self else {
            shared.readable(self.as_fd().as_raw_fd())?;
            return Ok(self.read(chunk)?);
        };
        // Decrypted bytes may wait where poll(2) does not look.
        stream.sock.set_read_timeout(Some(Duration::from_millis(50)))?;
        loop {
            match stream.read(chunk) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => shared.goes_on()?,
                done => return Ok(done?),
            }
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
            Self::Tls(stream) => stream.sock.as_fd(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(buffer),
            Self::Unix(stream) => stream.write(buffer),
            Self::Tls(stream) => stream.write(buffer),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::Tls(stream) => stream.flush(),
            _ => Ok(()),
        }
    }
}
