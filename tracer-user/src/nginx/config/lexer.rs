//! Statements of a configuration file, by nginx's own rules (`ngx_conf_read_token()`, src/core/ngx_conf_file.c, 1.22).
//!
//! Pure and total: any bytes give statements or one reason why not.

use super::lua;

/// What ended a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// `;`
    Directive,
    /// `{`
    Open,
    /// `}`, without words before it.
    Close,
    /// A block of Lua, its closing brace included: it has no statements.
    Lua,
}

/// Words up to a `;`, `{` or `}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) words: Vec<String>,
    /// Line of the first word, from 1.
    pub(super) line: u32,
    /// Line of the `;` or `{`: the one that nginx stores and logs.
    pub(super) end_line: u32,
    pub(super) end: End,
}

/// Why the bytes are no configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum LexError {
    #[error("line {line}: unexpected {found:?}")]
    Unexpected { line: u32, found: char },
    #[error("line {line}: the file ends within a directive")]
    Unfinished { line: u32 },
    #[error("line {line}: a directive of more than {WORDS} words")]
    Endless { line: u32 },
}

/// Words of one directive: generated lists of names may be long, memory is not endless.
const WORDS: usize = 100_000;

/// Where in a word the lexer is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Within {
    /// Between words.
    Space,
    Word,
    /// Quotes of this kind.
    Quotes(u8),
    /// Just behind the closing quote: a space, `;`, `{` or `)` must follow.
    Closed,
}

/// Reads statements one by one.
#[derive(Debug)]
pub(super) struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    line: u32,
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

impl<'a> Lexer<'a> {
    pub(super) const fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0, line: 1 }
    }

    /// The next statement; None at the end of the text.
    pub(super) fn statement(&mut self) -> Result<Option<Statement>, LexError> {
        let mut words: Vec<String> = Vec::new();
        let mut first_line = self.line;
        let mut within = Within::Space;
        let mut start = self.at;
        // Behind a `$`: a `{` belongs to a variable's name.
        let mut variable = false;
        let end = loop {
            let Some(&byte) = self.text.get(self.at) else {
                if words.is_empty() && within == Within::Space {
                    return Ok(None);
                }
                return Err(LexError::Unfinished { line: first_line });
            };
            let here = self.at;
            self.at += 1;
            if byte == b'\n' {
                self.line = self.line.saturating_add(1);
            }
            if within == Within::Closed {
                match byte {
                    b';' => break End::Directive,
                    b'{' => break End::Open,
                    b')' => within = Within::Space, // And the parenthesis begins the next word.
                    _ if is_space(byte) => {
                        within = Within::Space;
                        continue;
                    }
                    _ => return Err(self.unexpected(byte)),
                }
            }
            if within == Within::Space {
                if words.len() > WORDS {
                    return Err(LexError::Endless { line: first_line });
                }
                start = here;
                variable = false;
                match byte {
                    _ if is_space(byte) => continue,
                    b'#' => {
                        self.skip_line();
                        continue;
                    }
                    b';' | b'{' if words.is_empty() => return Err(self.unexpected(byte)),
                    b';' => break End::Directive,
                    b'{' => break End::Open,
                    b'}' if !words.is_empty() => return Err(self.unexpected(byte)),
                    _ => {}
                }
                if words.is_empty() {
                    first_line = self.line;
                }
                match byte {
                    b'}' => break End::Close,
                    b'"' | b'\'' => {
                        start = self.at;
                        within = Within::Quotes(byte);
                        continue;
                    }
                    _ => within = Within::Word,
                }
                match byte {
                    b'\\' => self.skip_quoted(),
                    b'$' => variable = true,
                    _ => {}
                }
                continue;
            }
            if byte == b'{' && variable {
                continue;
            }
            variable = false;
            match byte {
                b'\\' => self.skip_quoted(),
                b'$' => variable = true,
                _ => {
                    let found = match within {
                        Within::Quotes(quote) => byte == quote,
                        _ => is_space(byte) || matches!(byte, b';' | b'{'),
                    };
                    if !found {
                        continue;
                    }
                    words.push(word(self.text.get(start..here).unwrap_or_default()));
                    match (within, byte) {
                        (Within::Quotes(_), _) => within = Within::Closed,
                        (_, b';') => break End::Directive,
                        (_, b'{') => break End::Open,
                        _ => within = Within::Space,
                    }
                }
            }
        };
        let end_line = self.line;
        let end = self.lua(end, &words)?;
        Ok(Some(Statement { words, line: first_line, end_line, end }))
    }

    /// OpenResty reads what stands between the braces of a `…_by_lua_block` as Lua.
    fn lua(&mut self, end: End, words: &[String]) -> Result<End, LexError> {
        if end != End::Open || !words.first().is_some_and(|name| name.ends_with("_by_lua_block")) {
            return Ok(end);
        }
        let body = self.text.get(self.at..).unwrap_or_default();
        let length = lua::block(body).ok_or(LexError::Unfinished { line: self.line })?;
        let lines = body[..length].iter().filter(|byte| **byte == b'\n').count();
        self.line = self.line.saturating_add(u32::try_from(lines).unwrap_or(u32::MAX));
        self.at += length;
        Ok(End::Lua)
    }

    /// The character behind a backslash means nothing.
    fn skip_quoted(&mut self) {
        if self.text.get(self.at) == Some(&b'\n') {
            self.line = self.line.saturating_add(1);
        }
        self.at += 1;
    }

    fn skip_line(&mut self) {
        let rest = self.text.get(self.at..).unwrap_or_default();
        match rest.iter().position(|byte| *byte == b'\n') {
            Some(length) => {
                self.at += length + 1;
                self.line = self.line.saturating_add(1);
            }
            None => self.at = self.text.len(),
        }
    }

    fn unexpected(&self, byte: u8) -> LexError {
        LexError::Unexpected { line: self.line, found: char::from(byte) }
    }
}

/// Backslashes are taken out before quotes and backslashes, and make control characters of t, r and n; others stay.
fn word(raw: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.iter().copied().peekable();
    while let Some(byte) = rest.next() {
        let replaced = match (byte, rest.peek()) {
            (b'\\', Some(quoted @ (b'"' | b'\'' | b'\\'))) => Some(*quoted),
            (b'\\', Some(b't')) => Some(b'\t'),
            (b'\\', Some(b'r')) => Some(b'\r'),
            (b'\\', Some(b'n')) => Some(b'\n'),
            _ => None,
        };
        if replaced.is_some() {
            rest.next();
        }
        bytes.push(replaced.unwrap_or(byte));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests;
