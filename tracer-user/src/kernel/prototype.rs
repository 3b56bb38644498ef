//! What a tracepoint or a function of the kernel is called with, as far as the programs depend on it.

use std::fmt;

/// One argument; the kernel's own has an owned name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Argument<Name = &'static str> {
    /// Pointer to the struct of this name.
    Struct(Name),
    /// Pointer, to whatever.
    Pointer,
    /// An integer or an enum of this many bytes.
    Integer(u32),
}

/// As the kernel's BTF has it.
pub type Found = Argument<String>;

impl Argument {
    /// What the kernel has may stand where this is expected.
    fn admits(self, found: &Found) -> bool {
        match (self, found) {
            (Self::Pointer, Argument::Pointer | Argument::Struct(_)) => true,
            (Self::Struct(name), Argument::Struct(found)) => name == found,
            (Self::Integer(bytes), Argument::Integer(found)) => bytes == *found,
            _ => false,
        }
    }
}

impl<Name: fmt::Display> fmt::Display for Argument<Name> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Struct(name) => write!(formatter, "struct {name} *"),
            Self::Pointer => formatter.write_str("a pointer"),
            Self::Integer(bytes) => write!(formatter, "an integer of {bytes} bytes"),
        }
    }
}

/// How far the arguments of a hook must agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arity {
    /// More may follow.
    AtLeast,
    /// The return value comes right behind them.
    Exactly,
}

/// Why a declaration does not fit; None: it does. `found` are the kernel's arguments, None where it has no such place.
pub fn misfit(declared: &[Argument], arity: Arity, found: Option<&[Found]>) -> Option<String> {
    let Some(found) = found else { return Some("does not exist".to_owned()) };
    if found.len() < declared.len() || (arity == Arity::Exactly && found.len() != declared.len()) {
        return Some(format!("has {} arguments, {} are needed", found.len(), declared.len()));
    }
    let (index, (wanted, other)) =
        declared.iter().zip(found).enumerate().find(|(_, (wanted, other))| !wanted.admits(other))?;
    Some(format!("has {other} as argument {index}, not {wanted}"))
}

#[cfg(test)]
mod tests {
    use super::{Argument, Arity, Found, misfit};

    #[test]
    fn a_declaration_fits_or_says_why_not() {
        let declared = [Argument::Struct("sock"), Argument::Pointer, Argument::Integer(4)];
        let to = |name: &str| Found::Struct(name.to_owned());
        let kernel = [to("sock"), to("sk_buff"), Found::Integer(4), Found::Integer(8)];
        let check = |arity, found: Option<&[Found]>| misfit(&declared, arity, found);
        assert_eq!(check(Arity::AtLeast, Some(&kernel)), None);
        assert_eq!(check(Arity::Exactly, Some(&kernel[..3])), None);
        assert_eq!(check(Arity::Exactly, Some(&kernel)).as_deref(), Some("has 4 arguments, 3 are needed"));
        assert_eq!(check(Arity::AtLeast, Some(&kernel[..2])).as_deref(), Some("has 2 arguments, 3 are needed"));
        assert_eq!(check(Arity::AtLeast, None).as_deref(), Some("does not exist"));
        let other = [to("request_sock"), Found::Pointer, Found::Integer(4)];
        let said = check(Arity::AtLeast, Some(&other));
        assert_eq!(said.as_deref(), Some("has struct request_sock * as argument 0, not struct sock *"));
    }
}
