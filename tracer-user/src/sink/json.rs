//! JSON Lines: every record as it is, one per line, never folded.

use std::io::{self, Write};

use super::Sink;
use crate::record::Record;

/// Buffered lines are written out at this size even within a batch.
const BATCH: usize = 64 * 1024;

/// Writes each record as a line; only whole lines reach the writer.
#[derive(Debug)]
pub struct JsonLines<W> {
    output: W,
    buffer: Vec<u8>,
}

impl<W: Write> JsonLines<W> {
    pub fn new(output: W) -> Self {
        Self { output, buffer: Vec::new() }
    }

    fn write_out(&mut self) -> io::Result<()> {
        let written = self.output.write_all(&self.buffer);
        self.buffer.clear();
        written
    }
}

impl<W: Write> Sink for JsonLines<W> {
    fn write(&mut self, record: &Record) -> io::Result<()> {
        record.write_line(&mut self.buffer)?;
        if self.buffer.len() >= BATCH { self.write_out() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_out()?;
        self.output.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};

    use super::{BATCH, JsonLines};
    use crate::record::{Record, samples};
    use crate::sink::Sink;

    #[test]
    fn one_line_per_record_at_flush() {
        let mut output = Vec::new();
        let mut sink = JsonLines::new(&mut output);
        for record in samples::all() {
            sink.write(&record).unwrap();
        }
        sink.flush().unwrap();
        let text = String::from_utf8(output).unwrap();
        let records: Vec<_> = text.lines().map(|line| Record::read(line).unwrap()).collect();
        assert_eq!(records, samples::all());
    }

    /// Takes whole lines only, and counts how often it is asked.
    #[derive(Default)]
    struct WholeLines(usize);

    impl Write for WholeLines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            assert!(bytes.ends_with(b"\n"));
            self.0 += 1;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn long_batches_are_written_in_pieces_of_whole_lines() {
        let mut writes = WholeLines::default();
        let mut sink = JsonLines::new(&mut writes);
        for _ in 0..3 * BATCH / 1000 {
            sink.write(&Record::Failure(Box::new(samples::failure()))).unwrap();
        }
        assert!((2..10).contains(&writes.0), "{}", writes.0);
    }

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_closed_pipe_is_told() {
        let mut sink = JsonLines::new(Closed);
        sink.write(&Record::Lost(samples::lost())).unwrap();
        assert_eq!(sink.flush().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
