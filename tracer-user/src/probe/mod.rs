//! Which hook serves which observation, and the attaching of it. Decodes nothing.

pub mod attach;
pub mod hook;
pub mod lines;
mod load;
pub mod plan;
pub mod symbol;
pub mod table;
