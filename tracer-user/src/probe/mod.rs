//! Which hook serves which observation, and the attaching of it. Decodes nothing.

pub mod attach;
pub mod begun;
pub mod hook;
pub mod lines;
mod load;
mod maps;
pub mod plan;
pub mod symbol;
pub mod table;
