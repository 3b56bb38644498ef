//! Where the code of functions is in the running kernel, as /proc/kallsyms tells.

use std::{
    fs::File,
    io::{BufRead, BufReader},
};

/// Where the code of each of these functions begins, and where that of the next one does; zeros where that is not told: no
/// such function, or addresses are hidden from this process (kernel.kptr_restrict).
pub fn code_of<const COUNT: usize>(functions: [&str; COUNT]) -> [[u64; 2]; COUNT] {
    File::open("/proc/kallsyms").map_or([[0; 2]; COUNT], |file| code_in(BufReader::new(file), functions))
}

/// Functions of the kernel proper are listed in the order of their addresses (kallsyms_symbol_next(), kernel/kallsyms.c);
/// those of modules, which come after them, are not looked for.
fn code_in<const COUNT: usize>(mut lines: impl BufRead, functions: [&str; COUNT]) -> [[u64; 2]; COUNT] {
    let mut found = [[0; 2]; COUNT];
    let mut line = Vec::new();
    // Index of one whose end is looked for.
    let mut open: Option<usize> = None;
    let mut left = COUNT;
    loop {
        line.clear();
        if lines.read_until(b'\n', &mut line).unwrap_or(0) == 0 {
            // One without an end is of no use.
            if let Some(index) = open {
                found[index] = [0; 2];
            }
            return found;
        }
        let Some((address, name)) = symbol(&line) else { continue };
        if let Some(index) = open
            && address > found[index][0]
        {
            found[index][1] = address;
            left -= 1;
            open = None;
        }
        if left == 0 {
            return found;
        }
        if open.is_none()
            && address != 0
            && let Some(index) = functions.iter().position(|function| function.as_bytes() == name)
            && found[index] == [0; 2]
        {
            found[index][0] = address;
            open = Some(index);
        }
    }
}

/// `ffffffff81a3c4d0 T nf_hook_slow`; None: of a module (its name follows), or not like that.
fn symbol(line: &[u8]) -> Option<(u64, &[u8])> {
    let mut words = line.trim_ascii_end().split(|byte| *byte == b' ');
    let address = u64::from_str_radix(std::str::from_utf8(words.next()?).ok()?, 16).ok()?;
    let name = words.nth(1)?;
    (!name.contains(&b'\t')).then_some((address, name))
}

#[cfg(test)]
mod tests {
    use super::code_in;

    #[test]
    fn code_ends_where_the_next_function_begins() {
        let listed = "ffff10 t one\nffff20 T two\nffff20 T __two\nffff38 t three\nffffa0 t two\t[module]\n";
        let found = |functions| code_in(listed.as_bytes(), functions);
        assert_eq!(found(["two", "one"]), [[0xffff20, 0xffff38], [0xffff10, 0xffff20]]);
        assert_eq!(found(["three", "four"]), [[0; 2]; 2], "no end, and no beginning");
    }

    #[test]
    fn hidden_addresses_are_none() {
        let listed = "0000000000000000 T one\n0000000000000000 T two\n0 T\nnonsense\n\u{ff} T one\n";
        assert_eq!(code_in(listed.as_bytes(), ["one"]), [[0; 2]]);
    }
}
