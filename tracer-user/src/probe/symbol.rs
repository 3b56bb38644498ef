//! Where nginx's functions and data are in its binary.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use object::{Object as _, ObjectSection as _, ObjectSegment as _, ObjectSymbol as _, ReadCache, ReadRef};

/// Why a function was not found.
#[derive(Debug, thiserror::Error)]
pub enum SymbolError {
    #[error("cannot read the binary: {0}")]
    Read(#[from] io::Error),
    #[error("the binary is not ELF: {0}")]
    Parse(#[from] object::Error),
    #[error("no symbol {0} (a static or fully stripped build)")]
    Absent(&'static str),
}

/// `endbr64`: the kernel cannot emulate it, and single-stepping makes a hit ten times dearer; the next instruction
/// does as well.
const ENDBR64: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];

/// Bytes. A smaller file is read whole, and let go again: piece by piece, each symbol takes two system calls.
const READ_WHOLE: u64 = 16 << 20;

/// File offsets at which uprobes on `names` go, just after `endbr64` where there is one.
pub fn file_offsets<const N: usize>(
    binary: &Path,
    names: [&'static str; N],
) -> Result<[Result<u64, SymbolError>; N], SymbolError> {
    let file = File::open(binary)?;
    match whole(&file)? {
        Some(bytes) => Ok(offsets_in(&object::File::parse(bytes.as_slice())?, names)),
        None => Ok(offsets_in(&object::File::parse(&ReadCache::new(file))?, names)),
    }
}

/// Addresses of data, by name, as far as they are there: from where the file's first byte is loaded.
pub fn addresses(
    binary: &Path,
    names: impl Iterator<Item = &'static str>,
) -> Result<BTreeMap<&'static str, u64>, SymbolError> {
    let file = File::open(binary)?;
    let names = names.collect();
    match whole(&file)? {
        Some(bytes) => Ok(addresses_in(&object::File::parse(bytes.as_slice())?, &names)),
        None => Ok(addresses_in(&object::File::parse(&ReadCache::new(file))?, &names)),
    }
}

/// The file's bytes; None: too many.
fn whole(mut file: &File) -> io::Result<Option<Vec<u8>>> {
    let length = file.metadata()?.len();
    if length > READ_WHOLE {
        return Ok(None);
    }
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    // No more than that, even if it grows meanwhile.
    (&mut file).take(READ_WHOLE).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

fn offsets_in<'data, R: ReadRef<'data>, const N: usize>(
    elf: &object::File<'data, R>,
    names: [&'static str; N],
) -> [Result<u64, SymbolError>; N] {
    names.map(|name| {
        // `strip` leaves the dynamic table: nginx links with -Wl,-E (auto/cc/conf).
        let symbol = elf
            .dynamic_symbols()
            .chain(elf.symbols())
            .find(|symbol| symbol.is_definition() && symbol.name_bytes() == Ok(name.as_bytes()))
            .ok_or(SymbolError::Absent(name))?;
        let section = symbol.section_index().ok_or(SymbolError::Absent(name))?;
        let section = elf.section_by_index(section)?;
        let (start, _) = section.file_range().ok_or(SymbolError::Absent(name))?;
        let within = symbol.address().checked_sub(section.address()).ok_or(SymbolError::Absent(name))?;
        let first = section.data_range(symbol.address(), 4)?;
        Ok(start + within + if first == Some(ENDBR64.as_slice()) { 4 } else { 0 })
    })
}

fn addresses_in<'data, R: ReadRef<'data>>(
    elf: &object::File<'data, R>,
    names: &BTreeSet<&'static str>,
) -> BTreeMap<&'static str, u64> {
    let first = elf.segments().find(|segment| segment.file_range().0 == 0).map_or(0, |segment| segment.address());
    let symbols = elf.dynamic_symbols().chain(elf.symbols()).filter(|symbol| symbol.is_definition());
    symbols
        .filter_map(|symbol| {
            let name = names.get(symbol.name().ok()?)?;
            Some((*name, symbol.address().checked_sub(first)?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{SymbolError, file_offsets};

    #[test]
    fn a_text_file_is_not_elf() {
        let found = file_offsets(Path::new("/etc/passwd"), ["main"]);
        assert!(matches!(found, Err(SymbolError::Parse(_))), "{found:?}");
    }

    #[test]
    fn an_absent_symbol_is_said() {
        let own = std::env::current_exe().expect("there is one");
        let [found] = file_offsets(&own, ["no_such_function_anywhere"]).expect("ELF");
        assert!(matches!(found, Err(SymbolError::Absent(_))));
    }
}
