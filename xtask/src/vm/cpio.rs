//! The archive format that the kernel unpacks at boot: cpio "newc" (Documentation/driver-api/early-userspace/
//! buffer-format.rst). Writing only, and only what an initramfs needs.

use std::io::{self, Write};

/// File type and permissions, as `stat` has them.
pub(super) const DIRECTORY: u32 = 0o040_755;
/// Everyone's, like `/tmp`.
pub(super) const SHARED_DIRECTORY: u32 = 0o041_777;
pub(super) const PROGRAM: u32 = 0o100_755;
pub(super) const SYMLINK: u32 = 0o120_777;
pub(super) const CHARACTER_DEVICE: u32 = 0o020_600;

#[derive(Debug)]
pub(super) struct Writer<W> {
    out: W,
    inode: u32,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, inode: 0 }
    }

    /// `path` without a leading slash; directories before what is in them.
    pub(super) fn entry(&mut self, path: &str, mode: u32, data: &[u8]) -> io::Result<()> {
        self.write(path, mode, (0, 0), data)
    }

    pub(super) fn device(&mut self, path: &str, major: u32, minor: u32) -> io::Result<()> {
        self.write(path, CHARACTER_DEVICE, (major, minor), &[])
    }

    /// The archive's end; without it the kernel complains.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.inode = 0;
        self.write("TRAILER!!!", 0, (0, 0), &[])?;
        self.out.flush()
    }

    fn write(&mut self, path: &str, mode: u32, (major, minor): (u32, u32), data: &[u8]) -> io::Result<()> {
        let too_long = |_| io::Error::new(io::ErrorKind::InvalidInput, format!("{path} is too long for cpio"));
        let size = u32::try_from(data.len()).map_err(too_long)?;
        let name_size = u32::try_from(path.len() + 1).map_err(too_long)?;
        self.inode += 1;
        let (owner, links, time, device, check) = (0, 1, 0, 0, 0);
        let fields =
            [self.inode, mode, owner, owner, links, time, size, device, device, major, minor, name_size, check];
        let mut header = String::from("070701");
        for field in fields {
            header.push_str(&format!("{field:08x}"));
        }
        self.out.write_all(header.as_bytes())?;
        self.out.write_all(path.as_bytes())?;
        self.out.write_all(&[0])?;
        self.pad(header.len() + path.len() + 1)?;
        self.out.write_all(data)?;
        self.pad(data.len())
    }

    fn pad(&mut self, written: usize) -> io::Result<()> {
        self.out.write_all(&[0; 3][..written.next_multiple_of(4) - written])
    }
}

#[cfg(test)]
mod tests {
    use super::{PROGRAM, Writer};

    #[test]
    fn entries_are_aligned_and_the_archive_is_closed() {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out);
        writer.entry("init", PROGRAM, b"hello").unwrap();
        writer.finish().unwrap();
        // Header 110 and "init\0" make 115, padded to 116; the data make 121, padded to 124.
        assert_eq!(&out[..14], b"07070100000001");
        assert_eq!(&out[54..62], b"00000005");
        assert_eq!(&out[110..116], b"init\0\0");
        assert_eq!(&out[116..124], b"hello\0\0\0");
        assert_eq!(&out[124..130], b"070701");
        assert_eq!(out.len() % 4, 0);
        assert!(String::from_utf8_lossy(&out).contains("TRAILER!!!\0"));
    }
}
