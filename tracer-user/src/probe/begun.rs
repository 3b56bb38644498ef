//! What takes as long as all the rest before it is needed, in threads of its own.

use std::thread::{self, JoinHandle};

use aya::{Btf, BtfError, EbpfLoader};

/// Both on their way.
#[derive(Debug)]
pub struct Begun {
    pub(super) types: JoinHandle<Result<Btf, BtfError>>,
    pub(super) loader: JoinHandle<EbpfLoader<'static>>,
}

impl Begun {
    /// Begins to read the kernel's types, twice: nothing here is relocated by them, offsets come as settings, but a loader is not
    /// to be had without.
    pub fn begin() -> Self {
        let loader = || {
            let mut loader = EbpfLoader::new();
            loader.btf(None);
            loader
        };
        Self { types: thread::spawn(Btf::from_sys_fs), loader: thread::spawn(loader) }
    }
}
