//! What standard output is: a terminal or not, its width, its colours.

use std::io::IsTerminal;
use std::os::fd::{AsFd, OwnedFd};

use super::text::Palette;

/// When to colour. Auto means on a terminal, unless NO_COLOR is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ColorChoice {
    #[default]
    Auto,
    Always,
    Never,
}

/// Where lines are shown.
#[derive(Debug)]
pub struct Screen {
    palette: Palette,
    talk_palette: Palette,
    columns: Columns,
}

#[derive(Debug)]
enum Columns {
    Fixed(usize),
    Unlimited,
    /// Asked each time: windows are resized.
    OfTerminal(OwnedFd),
}

impl Screen {
    /// Standard output and standard error as they are.
    pub fn of_process(choice: ColorChoice) -> Self {
        let (stdout, stderr) = (std::io::stdout(), std::io::stderr());
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let color = |is_terminal: bool| match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => is_terminal && !plain,
        };
        let columns = match stdout.as_fd().try_clone_to_owned() {
            Ok(terminal) if stdout.is_terminal() => Columns::OfTerminal(terminal),
            _ => Columns::Unlimited,
        };
        Self {
            palette: Palette { color: color(stdout.is_terminal()) },
            talk_palette: Palette { color: color(stderr.is_terminal()) },
            columns,
        }
    }

    /// A screen of known size; without a width, lines are as long as they are.
    pub fn fixed(palette: Palette, columns: Option<usize>) -> Self {
        let columns = columns.map_or(Columns::Unlimited, Columns::Fixed);
        Self { palette, talk_palette: palette, columns }
    }

    pub(super) fn palette(&self) -> Palette {
        self.palette
    }

    pub(super) fn talk_palette(&self) -> Palette {
        self.talk_palette
    }

    /// Columns; None when lines may be as long as they are.
    pub fn width(&self) -> Option<usize> {
        match &self.columns {
            Columns::Fixed(columns) => Some(*columns),
            Columns::Unlimited => None,
            Columns::OfTerminal(terminal) => {
                let size = rustix::termios::tcgetwinsize(terminal).ok()?;
                (size.ws_col > 0).then_some(size.ws_col.into())
            }
        }
    }
}
