//! A process that does nothing but connect where nobody listens, when told to.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::child::{self, Guarded};

/// The name that it runs under, unlike any other's.
pub(crate) const NAME: &str = "why502-storm";

/// What it did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Made {
    pub(crate) refused: u64,
    pub(crate) seconds: f64,
}

/// The process; it ends with its guard.
#[derive(Debug)]
pub(crate) struct Connector {
    process: Guarded,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Connector {
    /// Starts this program once more under its own name.
    pub(crate) fn start(directory: &Path) -> Result<Self> {
        let path = directory.join(NAME);
        symlink(std::env::current_exe()?, &path).context("naming the connector")?;
        let mut command = Command::new(path);
        command.arg("connector").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = child::start(NAME, &mut command, None)?;
        let answers = BufReader::new(process.take_stdout().context("its stdout")?);
        let orders = process.take_stdin().context("its stdin")?;
        Ok(Self { process, orders, answers })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Has it connect `count` times, `rate` times a second, or as fast as it can where that is 0.
    pub(crate) fn connect(&mut self, to: &str, count: u64, rate: u64) -> Result<Made> {
        writeln!(self.orders, "{to} {count} {rate}")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let (refused, micros) = line.trim().split_once(' ').context("the connector ended")?;
        let made = Made { refused: refused.parse()?, seconds: micros.parse::<f64>()? / 1e6 };
        ensure!(made.refused == count, "only {} of {count} connects were refused", made.refused);
        Ok(made)
    }
}

/// The process itself: orders from standard input until it ends.
pub fn serve() -> Result<()> {
    for line in std::io::stdin().lines() {
        let line = line?;
        let mut words = line.split(' ');
        let mut word = || words.next().context("an order is an address, a count and a rate");
        let address: SocketAddr = word()?.parse()?;
        let (count, rate): (u64, u64) = (word()?.parse()?, word()?.parse()?);
        let start = Instant::now();
        let mut refused = 0;
        for number in 0..count {
            if let Some(nanos) = (number * 1_000_000_000).checked_div(rate) {
                let due = start + Duration::from_nanos(nanos);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            let error = TcpStream::connect(address).err().map(|error| error.kind());
            refused += u64::from(error == Some(std::io::ErrorKind::ConnectionRefused));
        }
        let mut stdout = std::io::stdout().lock();
        writeln!(stdout, "{refused} {}", start.elapsed().as_micros())?;
        stdout.flush()?;
    }
    Ok(())
}
