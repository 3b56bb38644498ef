//! A reader of the kernel's BTF, for the few questions that the offsets and the plan ask.
//!
//! Format: Documentation/bpf/btf.rst. Types are indexed by offset, and those that are asked for by a hash of their name; the
//! names themselves stay where they are, so that five megabytes of type information cost three of memory for a moment.

use std::{collections::HashMap, fs, hash::BuildHasher as _, hash::RandomState, io, path::Path};

use super::prototype::Found;

const MAGIC: u16 = 0xeb9f;

mod kind {
    pub(super) const INT: u32 = 1;
    pub(super) const PTR: u32 = 2;
    pub(super) const ARRAY: u32 = 3;
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const ENUM: u32 = 6;
    pub(super) const FWD: u32 = 7;
    pub(super) const TYPEDEF: u32 = 8;
    pub(super) const VOLATILE: u32 = 9;
    pub(super) const CONST: u32 = 10;
    pub(super) const RESTRICT: u32 = 11;
    pub(super) const FUNC: u32 = 12;
    pub(super) const FUNC_PROTO: u32 = 13;
    pub(super) const VAR: u32 = 14;
    pub(super) const DATASEC: u32 = 15;
    pub(super) const FLOAT: u32 = 16;
    pub(super) const DECL_TAG: u32 = 17;
    pub(super) const TYPE_TAG: u32 = 18;
    pub(super) const ENUM64: u32 = 19;
}

/// Why BTF could not be read, or does not answer.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    #[error("cannot read {path}: {source}")]
    Read { path: String, source: io::Error },
    #[error("{0} is not BTF that this program understands")]
    Malformed(String),
    #[error("the kernel's BTF has no struct {0}")]
    NoStruct(String),
    #[error("struct {of} has no member {member}")]
    NoMember { of: String, member: String },
    #[error("{of}.{member} is {found} bytes, not {expected}")]
    Size { of: String, member: String, found: u32, expected: u32 },
    #[error("{of}.{member} is a bit-field")]
    BitField { of: String, member: String },
}

/// Where a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Bytes from the start of the outer struct.
    pub offset: u32,
    /// Bytes.
    pub size: u32,
}

/// Parsed type information.
#[derive(Debug)]
pub struct Btf {
    data: Vec<u8>,
    /// Offset of each type's `struct btf_type` in `data`; index 0 is void.
    types: Vec<u32>,
    /// The first type of each kind and name in [`NAMED`], by a hash of both.
    named: HashMap<u64, u32>,
    hasher: RandomState,
    strings: usize,
    strings_end: usize,
}

/// Kinds that are asked for by name.
const NAMED: [u32; 4] = [kind::STRUCT, kind::TYPEDEF, kind::FUNC, kind::ENUM];

/// One type's fixed part.
#[derive(Clone, Copy)]
struct Type {
    name: u32,
    info: u32,
    /// Size, or the type referred to.
    size_or_type: u32,
    /// Where its variable part begins.
    tail: usize,
}

impl Type {
    fn kind(self) -> u32 {
        (self.info >> 24) & 0x1f
    }

    fn count(self) -> usize {
        (self.info & 0xffff) as usize
    }

    fn bit_fields(self) -> bool {
        self.info >> 31 == 1
    }
}

impl Btf {
    /// Reads the running kernel's `/sys/kernel/btf/vmlinux`.
    pub fn running() -> Result<Self, BtfError> {
        Self::from_file(Path::new("/sys/kernel/btf/vmlinux"))
    }

    /// Reads a raw BTF file.
    pub fn from_file(path: &Path) -> Result<Self, BtfError> {
        let data = fs::read(path).map_err(|source| BtfError::Read { path: path.display().to_string(), source })?;
        Self::parse(data).ok_or_else(|| BtfError::Malformed(path.display().to_string()))
    }

    fn parse(data: Vec<u8>) -> Option<Self> {
        let word = |at: usize| Some(u32::from_le_bytes(data.get(at..at + 4)?.try_into().ok()?));
        if u16::from_le_bytes([*data.first()?, *data.get(1)?]) != MAGIC {
            return None;
        }
        let header = word(4)? as usize;
        let (types_at, types_len) = (header + word(8)? as usize, word(12)? as usize);
        let (strings, strings_len) = (header + word(16)? as usize, word(20)? as usize);
        let (end, strings_end) = (types_at + types_len, strings + strings_len);
        if end > data.len() || strings_end > data.len() {
            return None;
        }
        let mut types = vec![0];
        let mut at = types_at;
        while at < end {
            types.push(u32::try_from(at).ok()?);
            let info = word(at + 4)?;
            let count = (info & 0xffff) as usize;
            at += 12
                + match (info >> 24) & 0x1f {
                    kind::INT | kind::VAR | kind::DECL_TAG => 4,
                    kind::ARRAY => 12,
                    kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => 12 * count,
                    kind::ENUM | kind::FUNC_PROTO => 8 * count,
                    kind::PTR
                    | kind::FWD
                    | kind::TYPEDEF
                    | kind::VOLATILE
                    | kind::CONST
                    | kind::RESTRICT
                    | kind::FUNC
                    | kind::FLOAT
                    | kind::TYPE_TAG => 0,
                    _ => return None,
                };
        }
        let mut btf = Self { data, types, named: HashMap::new(), hasher: RandomState::new(), strings, strings_end };
        btf.index();
        Some(btf)
    }

    fn index(&mut self) {
        let mut named = HashMap::new();
        for id in 1..self.types.len() as u32 {
            if let Some(found) = self.type_at(id).filter(|found| NAMED.contains(&found.kind())) {
                named.entry(self.hasher.hash_one((found.kind(), self.name(found.name)))).or_insert(id);
            }
        }
        self.named = named;
    }

    fn word(&self, at: usize) -> u32 {
        self.data.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes)
    }

    fn name(&self, offset: u32) -> &[u8] {
        let rest = self.data.get(self.strings + offset as usize..self.strings_end).unwrap_or_default();
        rest.split(|byte| *byte == 0).next().unwrap_or_default()
    }

    fn type_at(&self, id: u32) -> Option<Type> {
        let at = *self.types.get(id as usize)? as usize;
        (at != 0).then(|| Type {
            name: self.word(at),
            info: self.word(at + 4),
            size_or_type: self.word(at + 8),
            tail: at + 12,
        })
    }

    fn find(&self, kind: u32, name: &str) -> Option<Type> {
        let is_it = |found: &Type| found.kind() == kind && self.name(found.name) == name.as_bytes();
        let first = *self.named.get(&self.hasher.hash_one((kind, name.as_bytes())))?;
        // Another name can have the same hash.
        (first..self.types.len() as u32).filter_map(|id| self.type_at(id)).find(is_it)
    }

    /// Follows typedefs and qualifiers.
    fn resolve(&self, mut id: u32) -> Option<Type> {
        for _ in 0..32 {
            let found = self.type_at(id)?;
            match found.kind() {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                    id = found.size_or_type;
                }
                _ => return Some(found),
            }
        }
        None
    }

    /// The type itself, or what an array of it begins with.
    fn element(&self, id: u32) -> Option<Type> {
        let found = self.resolve(id)?;
        if found.kind() == kind::ARRAY { self.resolve(self.word(found.tail)) } else { Some(found) }
    }

    fn size(&self, id: u32) -> u32 {
        let Some(found) = self.resolve(id) else { return 0 };
        match found.kind() {
            kind::PTR => 8,
            kind::ARRAY => self.word(found.tail + 8) * self.size(self.word(found.tail)),
            kind::INT | kind::STRUCT | kind::UNION | kind::ENUM | kind::ENUM64 | kind::FLOAT => found.size_or_type,
            _ => 0,
        }
    }

    /// Where `path` (members joined by dots; anonymous structs and unions are looked through, of an array its first element) is in `struct of`, which
    /// must be `size` bytes there: the verifier does not catch a wrong offset inside a struct, so this must.
    pub fn member(&self, of: &str, path: &str, size: u32) -> Result<Member, BtfError> {
        let found = self.walk(of, path)?;
        if found.bit_field || found.bits % 8 != 0 {
            return Err(BtfError::BitField { of: of.into(), member: path.into() });
        }
        let actual = self.size(found.id);
        if actual != size {
            return Err(BtfError::Size { of: of.into(), member: path.into(), found: actual, expected: size });
        }
        Ok(Member { offset: found.bits / 8, size })
    }

    /// How many bits from the start of `struct of` a bit-field is. Where a byte's lowest bit comes first, as on all machines that
    /// this program runs on.
    pub fn bit(&self, of: &str, path: &str) -> Result<u32, BtfError> {
        let found = self.walk(of, path)?;
        if !found.bit_field {
            let (member, found) = (path.into(), self.size(found.id));
            return Err(BtfError::Size { of: of.into(), member, found, expected: 0 });
        }
        Ok(found.bits)
    }

    /// A member, and where it is in the outermost struct.
    fn walk(&self, of: &str, path: &str) -> Result<FoundMember, BtfError> {
        let outer = self.find(kind::STRUCT, of).ok_or_else(|| BtfError::NoStruct(of.into()))?;
        let absent = || BtfError::NoMember { of: of.into(), member: path.into() };
        let mut offset = 0;
        let mut current = outer;
        let mut found = FoundMember { bits: 0, id: 0, bit_field: false };
        for (index, part) in path.split('.').enumerate() {
            if index > 0 {
                current = self.element(found.id).ok_or_else(absent)?;
            }
            found = self.find_member(current, part, 0).ok_or_else(absent)?;
            offset += found.bits;
        }
        Ok(FoundMember { bits: offset, ..found })
    }

    fn find_member(&self, of: Type, name: &str, depth: u32) -> Option<FoundMember> {
        if depth > 16 || !matches!(of.kind(), kind::STRUCT | kind::UNION) {
            return None;
        }
        for index in 0..of.count() {
            let at = of.tail + 12 * index;
            let (member_name, id, raw) = (self.word(at), self.word(at + 4), self.word(at + 8));
            let (bits, bit_field) = if of.bit_fields() { (raw & 0x00ff_ffff, raw >> 24 != 0) } else { (raw, false) };
            let text = self.name(member_name);
            if text == name.as_bytes() {
                return Some(FoundMember { bits, id, bit_field });
            }
            if text.is_empty()
                && let Some(inner) = self.resolve(id).and_then(|inner| self.find_member(inner, name, depth + 1))
            {
                return Some(FoundMember { bits: bits + inner.bits, ..inner });
            }
        }
        None
    }

    /// Arguments of a tracepoint (`btf_trace_*`, without the hidden first one); None: no such tracepoint.
    pub fn tracepoint(&self, name: &str) -> Option<Vec<Found>> {
        let typedef = self.find(kind::TYPEDEF, &format!("btf_trace_{name}"))?;
        let pointer = self.resolve(typedef.size_or_type)?;
        let mut arguments = self.arguments(self.resolve(pointer.size_or_type)?)?;
        (!arguments.is_empty()).then(|| arguments.split_off(1))
    }

    /// Arguments of a function; None: no such function, or none that BTF describes.
    pub fn function(&self, name: &str) -> Option<Vec<Found>> {
        let function = self.find(kind::FUNC, name)?;
        self.arguments(self.resolve(function.size_or_type)?)
    }

    fn arguments(&self, prototype: Type) -> Option<Vec<Found>> {
        let argument = |index: usize| {
            let id = self.word(prototype.tail + 8 * index + 4);
            match self.resolve(id) {
                Some(found) if found.kind() == kind::PTR => match self.resolve(found.size_or_type) {
                    Some(to) if matches!(to.kind(), kind::STRUCT | kind::FWD) => {
                        let name = String::from_utf8_lossy(self.name(to.name)).into_owned();
                        Found::Struct(name)
                    }
                    _ => Found::Pointer,
                },
                _ => Found::Integer(self.size(id)),
            }
        };
        (prototype.kind() == kind::FUNC_PROTO).then(|| (0..prototype.count()).map(argument).collect())
    }

    /// Names of an enum's values, by number.
    pub fn enum_names(&self, name: &str) -> Vec<(u32, String)> {
        let Some(found) = self.find(kind::ENUM, name) else { return Vec::new() };
        (0..found.count())
            .map(|index| {
                let at = found.tail + 8 * index;
                (self.word(at + 4), String::from_utf8_lossy(self.name(self.word(at))).into_owned())
            })
            .collect()
    }
}

#[derive(Clone, Copy)]
struct FoundMember {
    bits: u32,
    id: u32,
    bit_field: bool,
}

#[cfg(test)]
mod tests {
    use super::{Btf, Found};

    #[test]
    fn garbage_is_refused_without_panic() {
        for length in 0..64 {
            assert!(Btf::parse(vec![0x9f; length]).is_none());
        }
        let mut header = vec![0x9f, 0xeb, 1, 0, 24, 0, 0, 0];
        header.extend([0xff; 16]);
        assert!(Btf::parse(header).is_none());
    }

    #[test]
    fn the_running_kernel_answers() {
        // Without BTF there is nothing to check: `doctor` says so to the user.
        let Ok(btf) = Btf::running() else { return };
        assert_eq!(btf.member("sock_common", "skc_daddr", 4).expect("in every kernel").offset, 0);
        assert!(btf.member("sock_common", "skc_daddr", 8).is_err(), "a wrong size must be refused");
        assert!(btf.member("tcp_sock", "no_such_member", 4).is_err());
        assert!(btf.bit("sock_common", "skc_ipv6only").is_ok() && btf.bit("sock_common", "skc_daddr").is_err());
        assert!(btf.member("sock_common", "skc_ipv6only", 1).is_err());
        let arguments = [Found::Struct("sock".to_owned()), Found::Integer(4), Found::Integer(4)];
        assert_eq!(btf.tracepoint("inet_sock_set_state").as_deref(), Some(arguments.as_slice()));
        assert_eq!(btf.tracepoint("no_such_tracepoint"), None);
        let arguments = [Found::Integer(4), Found::Struct("sockaddr".to_owned()), Found::Integer(4)];
        assert_eq!(btf.function("__sys_connect").as_deref(), Some(arguments.as_slice()));
    }
}
