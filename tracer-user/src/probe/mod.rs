//! Which hook serves which observation, and the attaching of it. Decodes nothing.

pub mod attach;
pub mod plan;
pub mod symbol;
