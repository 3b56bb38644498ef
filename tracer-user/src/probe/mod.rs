//! Which hook serves which observation, and the attaching of it. Decodes nothing.

pub mod attach;
pub mod lines;
pub mod plan;
pub mod symbol;
