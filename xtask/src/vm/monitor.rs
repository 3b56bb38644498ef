//! Where a machine's processors stand, asked of qemu's monitor: all that can be learned of a kernel that answers nobody.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::arch::Arch;

/// What the monitor says when it waits for a command.
const PROMPT: &str = "(qemu) ";
/// For an answer. A main loop of qemu that hangs itself gives none.
const PATIENCE: Duration = Duration::from_secs(5);
/// One look does not tell what waits from what goes round in circles.
const LOOKS: usize = 3;
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// The machine's state and some looks at its processors, a line each; or why there are none.
pub(super) fn stand(socket: &Path, arch: Arch) -> String {
    let lines = look(socket, arch).unwrap_or_else(|error| vec![format!("its monitor does not answer: {error:#}")]);
    lines.into_iter().map(|line| format!("  {line}\n")).collect()
}

fn look(socket: &Path, arch: Arch) -> Result<Vec<String>> {
    let mut stream = UnixStream::connect(socket).context("connecting")?;
    stream.set_read_timeout(Some(PATIENCE)).context("patience")?;
    answer(&mut stream)?;
    let mut lines = vec![ask(&mut stream, "info status")?.trim().to_owned()];
    for number in 0..LOOKS {
        if number > 0 {
            thread::sleep(BETWEEN_LOOKS);
        }
        lines.push(positions(&ask(&mut stream, "info registers -a")?, arch));
    }
    Ok(lines)
}

fn ask(stream: &mut UnixStream, command: &str) -> Result<String> {
    writeln!(stream, "{command}").with_context(|| command.to_owned())?;
    let answer = answer(stream).with_context(|| command.to_owned())?;
    // The first line repeats the command.
    Ok(answer.split_once('\n').map_or(String::new(), |(_, rest)| rest.replace('\r', "")))
}

fn answer(stream: &mut UnixStream) -> Result<String> {
    let end = Instant::now() + PATIENCE;
    let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
    while !text.ends_with(PROMPT.as_bytes()) {
        match stream.read(&mut buffer) {
            Ok(0) => return Err(std::io::Error::from(ErrorKind::UnexpectedEof).into()),
            Ok(length) => text.extend_from_slice(&buffer[..length]),
            Err(error) => return Err(error.into()),
        }
        if Instant::now() > end {
            return Err(std::io::Error::from(ErrorKind::TimedOut).into());
        }
    }
    Ok(String::from_utf8_lossy(&text[..text.len() - PROMPT.len()]).into_owned())
}

/// Of each processor its instruction and its stack, and whether it waits for an interrupt.
fn positions(registers: &str, arch: Arch) -> String {
    let names: &[&str] = match arch {
        Arch::X86_64 => &["RIP=", "RSP=", "RFL=", "HLT="],
        Arch::Aarch64 => &["PC=", "SP=", "PSTATE="],
    };
    let of = |processor: &str| {
        let words = processor.split_ascii_whitespace();
        let wanted = words.filter(|word| names.iter().any(|name| word.starts_with(name)));
        wanted.collect::<Vec<_>>().join(" ")
    };
    // Before the first there is nothing.
    let processors = registers.split("CPU#").skip(1);
    let told: Vec<_> = processors
        .map(|processor| format!("CPU {}: {}", processor.chars().next().unwrap_or('?'), of(processor)))
        .collect();
    told.join("; ")
}

#[cfg(test)]
mod tests {
    use super::positions;
    use crate::arch::Arch;

    #[test]
    fn of_each_processor_where_it_is() {
        let registers = "\nCPU#0\nRAX=0 RBX=1\nRSI=0 RDI=0 RBP=0 RSP=ffffffff82a03e58\n\
            RIP=ffffffff81c0a4ab RFL=00000246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=1\nES =0000 0 0 0\n\
            CPU#1\nRAX=0\nRBP=0 RSP=00007ffc\nRIP=0000558b RFL=00000202 [-------] CPL=3 II=0 A20=1 SMM=0 HLT=0\n";
        assert_eq!(
            positions(registers, Arch::X86_64),
            "CPU 0: RSP=ffffffff82a03e58 RIP=ffffffff81c0a4ab RFL=00000246 HLT=1; \
             CPU 1: RSP=00007ffc RIP=0000558b RFL=00000202 HLT=0"
        );
    }
}
