//! Kernel modules: the wanted ones and those they depend on, in the order in which they must be loaded.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::initramfs::Image;
use super::kernel::Kernel;

/// Namespaces joined by a cable, an interface to nowhere and one to a program, what answers `ss`, and a firewall: rules that reject, rules that
/// rewrite addresses, and what answers `conntrack`.
const USUAL: [&str; 11] = [
    "veth",
    "dummy",
    "tun",
    "tcp_diag",
    "unix_diag",
    "nf_tables",
    "nft_reject_inet",
    "nft_chain_nat",
    "nft_nat",
    "nft_masq",
    "nf_conntrack_netlink",
];

/// Puts modules into the machine, numbered in loading order.
pub(super) fn add(image: &mut Image, kernel: &Kernel, more: &[String]) -> Result<()> {
    let Some(directory) = &kernel.modules else { return Ok(()) };
    let mut tree = Tree { files: BTreeMap::new(), loaded: Vec::new() };
    find(directory, &mut tree.files)?;
    for name in USUAL {
        // Built into some kernels.
        if tree.files.contains_key(name) {
            tree.load(name)?;
        }
    }
    for name in more {
        tree.load(&name.replace('-', "_"))?;
    }
    for (index, (name, content)) in tree.loaded.into_iter().enumerate() {
        image.text(&Path::new("/etc/vm-init/modules").join(format!("{index:03}-{name}.ko")), content);
    }
    Ok(())
}

struct Tree {
    files: BTreeMap<String, PathBuf>,
    loaded: Vec<(String, Vec<u8>)>,
}

impl Tree {
    fn load(&mut self, name: &str) -> Result<()> {
        if self.loaded.iter().any(|(loaded, _)| loaded == name) {
            return Ok(());
        }
        let path = self.files.get(name).with_context(|| format!("the kernel has no module {name}"))?;
        let content = read(path)?;
        for dependency in dependencies(&content) {
            self.load(&dependency)?;
        }
        self.loaded.push((name.into(), content));
        Ok(())
    }
}

/// All modules below `directory` by name, in which `-` and `_` are the same.
fn find(directory: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))? {
        let path = entry.with_context(|| format!("reading {}", directory.display()))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            find(&path, files)?;
        } else if let Some((name, _)) = name.split_once(".ko") {
            files.insert(name.replace('-', "_"), path);
        }
    }
    Ok(())
}

/// The module, unpacked: not every kernel can do that itself.
fn read(path: &Path) -> Result<Vec<u8>> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("ko") => fs::read(path).with_context(|| format!("reading {}", path.display())),
        Some("xz") => {
            let output = Command::new("xz").arg("-dc").arg(path).stderr(Stdio::inherit()).output();
            let output = output.context("cannot run `xz`")?;
            if !output.status.success() {
                bail!("`xz -dc {}`: {}", path.display(), output.status);
            }
            Ok(output.stdout)
        }
        _ => bail!("{}: packed in a way that is not known here", path.display()),
    }
}

/// From `depends=a,b` in the section `.modinfo`, whose entries end with a zero byte.
fn dependencies(module: &[u8]) -> Vec<String> {
    let key = b"\0depends=";
    let Some(start) = module.windows(key.len()).position(|window| window == key) else { return Vec::new() };
    let list = module[start + key.len()..].split(|byte| *byte == 0).next().unwrap_or_default();
    let list = String::from_utf8_lossy(list);
    list.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}

#[cfg(test)]
mod tests {
    use super::dependencies;

    #[test]
    fn dependencies_are_read_from_modinfo() {
        assert_eq!(
            dependencies(b"\x7fELF\0license=GPL\0depends=inet_diag,nf-tables\0retpoline=Y\0"),
            ["inet_diag", "nf_tables"]
        );
        assert!(dependencies(b"\0depends=\0").is_empty());
        assert!(dependencies(b"").is_empty());
    }
}
