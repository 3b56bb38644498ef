//! What `why502` shows to people: every byte of it, from a pipe or from a terminal.

use std::fs::File;
use std::io::Read;
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::child::{self, Guarded};
use crate::wait;

/// Where it writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Screen {
    /// A pipe, in colour all the same.
    Pipe,
    /// A terminal.
    Terminal,
}

/// A running `why502 trace` for people.
#[derive(Debug)]
pub struct Shown {
    process: Guarded,
    reader: JoinHandle<Vec<u8>>,
    screen: Screen,
}

impl Shown {
    /// Starts it on this nginx and waits until its hooks are attached, as a capture file beside it tells.
    pub fn start(why502: &Path, nginx: u32, screen: Screen, directory: &Path) -> Result<Self> {
        let capture: PathBuf = directory.join(format!("{screen:?}.jsonl"));
        let (reader, writer) = match screen {
            Screen::Pipe => {
                let (reader, writer) = std::io::pipe()?;
                (OwnedFd::from(reader), OwnedFd::from(writer))
            }
            Screen::Terminal => terminal()?,
        };
        let mut command = Command::new(why502);
        command.args(["trace", "--verbose", "--pid", &nginx.to_string(), "--log"]).arg(&capture);
        if screen == Screen::Pipe {
            command.args(["--color", "always"]);
        }
        let errors = File::create(directory.join(format!("{screen:?}.stderr")))?;
        command.env("TERM", "xterm").stdin(Stdio::null()).stdout(Stdio::from(writer)).stderr(errors);
        let process = child::start("why502", &mut command, None)?;
        drop(command); // And with it the end that would keep the reader waiting.
        let reader = std::thread::spawn(move || {
            let (mut file, mut bytes) = (File::from(reader), Vec::new());
            // A terminal whose other end is closed gives EIO.
            let _ = file.read_to_end(&mut bytes);
            bytes
        });
        let attached = || std::fs::read_to_string(&capture).is_ok_and(|text| text.contains("\"session\""));
        wait::until("the capture's session record", Duration::from_secs(30), attached)?;
        Ok(Self { process, reader, screen })
    }

    /// Ends it; gives what it showed, or an error naming the first thing that a terminal would obey.
    pub fn finish(mut self) -> Result<String> {
        self.process.signal(libc::SIGINT)?;
        let status = self.process.wait(wait::SOON)?;
        ensure!(status.success(), "why502 ended with {status}");
        let bytes = self.reader.join().ok().context("the reader of what was shown")?;
        let text = String::from_utf8(bytes).context("what was shown is no UTF-8")?;
        harmless(&text, self.screen).with_context(|| format!("{:?}", self.screen))?;
        Ok(text)
    }
}

/// That the text holds nothing that a terminal obeys but new lines and colours, and nothing that turns text around.
fn harmless(text: &str, screen: Screen) -> Result<()> {
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let after = &rest[character.len_utf8()..];
        let bad = match character {
            '\n' => false,
            '\r' => screen == Screen::Pipe,
            '\x1b' => {
                let end = after.find(|letter: char| !matches!(letter, '[' | '0'..='9' | ';')).unwrap_or(after.len());
                !(after.starts_with('[') && after[end..].starts_with('m'))
            }
            '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                true
            }
            other => other.is_control(),
        };
        if bad {
            let before: String = text[..text.len() - rest.len()].chars().rev().take(40).collect();
            let before: String = before.chars().rev().collect();
            bail!("{character:?} is shown as it is, after {before:?}");
        }
        rest = after;
    }
    Ok(())
}

/// A pseudo-terminal of 200 columns: its master and its slave.
fn terminal() -> Result<(OwnedFd, OwnedFd)> {
    let (mut master, mut slave) = (-1, -1);
    let size = libc::winsize { ws_row: 50, ws_col: 200, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: both descriptors and the size are live; name and settings may be null.
    let code = unsafe {
        libc::openpty(&raw mut master, &raw mut slave, std::ptr::null_mut(), std::ptr::null(), &raw const size)
    };
    ensure!(code == 0, "openpty: {}", std::io::Error::last_os_error());
    // SAFETY: openpty(3) made both, and nobody else owns them.
    Ok(unsafe { (OwnedFd::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) })
}

#[cfg(test)]
mod tests {
    use super::{Screen, harmless};

    #[test]
    fn only_colours_and_lines_are_harmless() {
        assert!(harmless("a \x1b[1;31mred\x1b[0m line\n", Screen::Pipe).is_ok());
        for text in ["\x1b[2J", "\x1b]0;title\x07", "\u{9b}31m", "\u{202e}", "\x07", "\x1b", "\x1b[31", "\r"] {
            assert!(harmless(text, Screen::Pipe).is_err(), "{text:?}");
        }
    }
}
