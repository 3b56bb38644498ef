//! Puts the eBPF object where `include_bytes!` finds it: `$OUT_DIR/why502.o`.
//!
//! The object is the one that `WHY502_EBPF_OBJECT` names, else what `cargo xtask build` left in `target/ebpf`, else an
//! empty file, so that user space compiles, lints and tests without the BPF toolchain; the program then says at run
//! time how to build it.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use object::build::elf::{Builder, SectionData};

const OVERRIDE: &str = "WHY502_EBPF_OBJECT";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={OVERRIDE}");
    let object = match env::var_os(OVERRIDE) {
        Some(path) => PathBuf::from(path),
        None => default_object()?,
    };
    // A missing file counts as changed: it is looked for again on every build.
    println!("cargo::rerun-if-changed={}", object.display());
    let embedded = Path::new(&env::var("OUT_DIR")?).join("why502.o");
    if object.exists() || env::var_os(OVERRIDE).is_some() {
        let lean = fs::read(&object).map_err(Into::into).and_then(|whole| without_dwarf(&whole));
        fs::write(&embedded, lean.map_err(|error| format!("{}: {error}", object.display()))?)?;
    } else {
        fs::write(&embedded, [])?;
    }
    Ok(())
}

/// DWARF is three quarters of the object, and would be as much of what the program takes in memory. The kernel and aya want the BTF.
fn without_dwarf(object: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut builder = Builder::read(object)?;
    for section in &mut builder.sections {
        section.delete = [".debug_", ".rel.debug_"].iter().any(|prefix| section.name.starts_with(prefix.as_bytes()));
    }
    builder.delete_orphans();
    // LLVM has the names of sections and of symbols in one.
    let names = builder.sections.add();
    names.name = ".shstrtab".into();
    names.sh_type = object::elf::SHT_STRTAB;
    names.data = SectionData::SectionString;
    let mut lean = Vec::new();
    builder.write(&mut lean)?;
    Ok(lean)
}

/// Objects depend on the machine they trace: registers of probed functions differ. xtask's paths.rs has the same names.
fn default_object() -> Result<PathBuf, env::VarError> {
    let arch = env::var("CARGO_CFG_TARGET_ARCH")?;
    let name = if env::var("HOST")?.starts_with(&arch) { "why502.o".to_owned() } else { format!("why502-{arch}.o") };
    Ok(Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../target/ebpf").join(name))
}
