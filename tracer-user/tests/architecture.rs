//! The direction of flow, kept: which module imports which, read from the sources.
//!
//! `lib.rs` lists the modules by direction of flow; a module imports only from those before it. The diagnosis is pure:
//! it imports `model` and nothing else, and reaches for no file, clock, process or network.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Imports against the direction, which wait to be turned round: (from, to).
const KNOWN: &[(&str, &str)] = &[("cli", "exit"), ("doctor", "trace"), ("trace", "exit")];
/// What would make a function of its arguments depend on the world.
const IMPURE: [&str; 5] = ["env", "fs", "os", "process", "thread"];

/// A source file without its comments.
struct Source {
    path: PathBuf,
    module: String,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    let mut directories = vec![root().join("src")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("the sources can be listed") {
            let path = entry.expect("the sources can be listed").path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source file can be read");
                let inside = path.strip_prefix(root().join("src")).expect("it is inside");
                let first = inside.components().next().expect("it has a name").as_os_str();
                let module = first.to_string_lossy().trim_end_matches(".rs").to_owned();
                found.push(Source { text: without_comments(&text), path, module });
            }
        }
    }
    found
}

fn without_comments(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The modules of `lib.rs`, in its order.
fn order() -> Vec<String> {
    let text = fs::read_to_string(root().join("src/lib.rs")).expect("lib.rs can be read");
    let module = |line: &str| Some(line.strip_prefix("pub mod ")?.strip_suffix(';')?.to_owned());
    text.lines().filter_map(module).collect()
}

/// First names after `start::`, those of groups included: `crate::{a::b, c}` has a and c.
fn names_after(text: &str, start: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, _) in text.match_indices(&format!("{start}::")) {
        if text[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_' || before == ':') {
            continue;
        }
        let rest = &text[at + start.len() + 2..];
        match rest.strip_prefix('{') {
            None => names.extend(first_name(rest)),
            Some(group) => names.extend(parts(group).into_iter().filter_map(first_name)),
        }
    }
    names
}

/// What stands between the commas of a group, up to its end; groups inside are left whole.
fn parts(group: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut begin) = (Vec::new(), 0, 0);
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => {
                parts.push(&group[begin..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&group[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts
}

fn first_name(text: &str) -> Option<String> {
    let text = text.trim_start();
    let end = text.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(text.len());
    (end > 0).then(|| text[..end].to_owned())
}

/// Which modules each imports, its own aside.
fn imports() -> BTreeMap<String, BTreeSet<String>> {
    let modules = order();
    let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources() {
        let mut names = names_after(&source.text, "crate");
        names.retain(|name| modules.contains(name) && *name != source.module);
        imports.entry(source.module).or_default().extend(names);
    }
    imports
}

/// Crates that `Cargo.toml` names, as they are written in sources.
fn dependencies() -> Vec<String> {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml can be read");
    let mut inside = false;
    let mut names = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.contains("dependencies");
        } else if inside && let Some(name) = line.split(['.', ' ', '=']).next().filter(|name| !name.is_empty()) {
            names.push(name.replace('-', "_"));
        }
    }
    names
}

#[test]
fn the_diagnosis_imports_the_model_alone() {
    let imports = imports();
    assert_eq!(imports["diagnose"], BTreeSet::from(["model".to_owned()]));
    assert_eq!(imports["model"], BTreeSet::new());
}

#[test]
fn the_diagnosis_uses_no_other_crate() {
    let dependencies = dependencies();
    assert!(dependencies.iter().any(|name| name == "tracer_common"), "{dependencies:?}");
    for source in sources().iter().filter(|source| ["diagnose", "model"].contains(&source.module.as_str())) {
        for name in &dependencies {
            assert!(names_after(&source.text, name).is_empty(), "{} uses {name}", source.path.display());
        }
    }
}

#[test]
fn the_diagnosis_is_pure() {
    for source in sources().iter().filter(|source| ["diagnose", "model"].contains(&source.module.as_str())) {
        let used = names_after(&source.text, "std");
        for name in IMPURE {
            assert!(!used.contains(name), "{} uses std::{name}", source.path.display());
        }
        // Errors have their names there; reading and writing does not take place here.
        let io = source.text.replace("std::io::Error::from_raw_os_error", "");
        assert!(!names_after(&io, "std").contains("io"), "{} uses std::io", source.path.display());
        for word in ["SystemTime", "Instant", "println!", "eprint", "static mut", "unsafe ", "thread_local!"] {
            assert!(!source.text.contains(word), "{} has {word}", source.path.display());
        }
    }
}

#[test]
fn modules_import_only_those_before_them() {
    let order = order();
    let place = |name: &str| order.iter().position(|module| module == name);
    let mut backwards = Vec::new();
    for (from, imported) in imports() {
        for to in imported {
            let known = KNOWN.contains(&(from.as_str(), to.as_str()));
            if !known && place(&from).is_some_and(|from| place(&to) > Some(from)) {
                backwards.push(format!("{from} imports {to}, which comes after it"));
            }
        }
    }
    assert!(backwards.is_empty(), "{backwards:#?}");
}

/// What keeps the other tests from passing because nothing was found.
#[test]
fn imports_are_found() {
    let text =
        "use crate::{\n    kernel::{clock, facts},\n    model,\n};\nfn f() { crate::sink::g(); other_crate::x() }";
    let found: Vec<String> = names_after(text, "crate").into_iter().collect();
    assert_eq!(found, ["kernel", "model", "sink"]);
    assert!(order().len() > 10 && imports()["trace"].len() > 5);
}
