//! Puts the eBPF object where `include_bytes!` finds it: `$OUT_DIR/why502.o`.
//!
//! The object is the one that `WHY502_EBPF_OBJECT` names, else what `cargo xtask build` left in `target/ebpf`, else an
//! empty file, so that user space compiles, lints and tests without the BPF toolchain; the program then says at run
//! time how to build it.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

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
        fs::copy(&object, &embedded).map_err(|error| format!("{}: {error}", object.display()))?;
    } else {
        fs::write(&embedded, [])?;
    }
    Ok(())
}

/// Objects depend on the machine they trace: registers of probed functions differ. xtask's paths.rs has the same names.
fn default_object() -> Result<PathBuf, env::VarError> {
    let arch = env::var("CARGO_CFG_TARGET_ARCH")?;
    let name = if env::var("HOST")?.starts_with(&arch) { "why502.o".to_owned() } else { format!("why502-{arch}.o") };
    Ok(Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../target/ebpf").join(name))
}
