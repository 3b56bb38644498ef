//! A connection from nginx, over TCP or a unix socket alike.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use anyhow::{Result, ensure};

/// A connection from nginx.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
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

    /// Ends one direction.
    pub(crate) fn shutdown(&self, how: Shutdown) -> Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(how)?,
            Self::Unix(stream) => UnixStream::shutdown(stream, how)?,
        }
        Ok(())
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(buffer),
            Self::Unix(stream) => stream.write(buffer),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
