//! Where a block of Lua ends (lua-nginx-module, src/ngx_http_lua_lex.rl): braces in strings and comments do not count.

/// Length of the block's text, its closing brace included; `text` begins behind the opening one. None: it does not end.
pub(super) fn block(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    let mut depth = 1_u32;
    while let Some(&byte) = text.get(at) {
        let rest = &text[at..];
        match byte {
            b'{' => {
                depth = depth.saturating_add(1);
                at += 1;
            }
            b'}' => {
                depth -= 1;
                at += 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            b'"' | b'\'' => at += string(rest)?,
            b'[' => at += level(rest).map_or(Some(1), |level| long(rest, level))?,
            b'-' if rest.get(1) == Some(&b'-') => {
                let comment = &rest[2..];
                at += 2 + level(comment).map_or_else(|| line(comment), |level| long(comment, level))?;
            }
            _ => at += 1,
        }
    }
    None
}

/// Length of a quoted string at the start.
fn string(text: &[u8]) -> Option<usize> {
    let quote = *text.first()?;
    let mut at = 1;
    loop {
        match *text.get(at)? {
            b'\\' => at += 2,
            byte if byte == quote => return Some(at + 1),
            _ => at += 1,
        }
    }
}

/// How many `=` a long bracket at the start has: none in `[[ … ]]`, one in `[=[ … ]=]`. None: it is no such bracket.
fn level(text: &[u8]) -> Option<usize> {
    let level = text.get(1..)?.iter().take_while(|byte| **byte == b'=').count();
    (text.first() == Some(&b'[') && text.get(level + 1) == Some(&b'[')).then_some(level)
}

/// Length of a long bracket of this level at the start.
fn long(text: &[u8], level: usize) -> Option<usize> {
    let inside = level + 2;
    let closes = |window: &[u8]| {
        let (first, last) = (window.first(), window.last());
        first == Some(&b']') && last == Some(&b']') && window[1..=level].iter().all(|byte| *byte == b'=')
    };
    let end = text.get(inside..)?.windows(inside).position(closes)?;
    Some(inside + end + inside)
}

/// Length up to the end of the line.
fn line(text: &[u8]) -> Option<usize> {
    text.iter().position(|byte| *byte == b'\n').map(|at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::block;

    #[test]
    fn braces_in_strings_and_comments_do_not_count() {
        for text in [
            "}",
            " return { a = {} } }",
            " local s = '}' .. \"}\\\"}\" }",
            " -- }\n }",
            " --[[ } \n } ]] }",
            " local s = [==[ } ]] ]=] ]==] }",
            " local t = a[b[1]] }",
        ] {
            assert_eq!(block(format!("{text} rest").as_bytes()), Some(text.len()), "{text}");
        }
        for text in ["", "{}", "'}", "-- }", "[[ }", "\"\\"] {
            assert_eq!(block(text.as_bytes()), None, "{text}");
        }
    }
}
