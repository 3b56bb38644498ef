//! The configuration files of a running master, as on disk; what they say about a failure.
//!
//! `master` finds the file, `root` reads it where the master is, `lexer` and `tree` make directives of it, `view` answers
//! what is in force where, `advice` turns that into sentences. Reads only; nothing is executed, loaded or changed.

mod advice;
mod advisor;
mod defaults;
mod lexer;
mod lua;
mod master;
mod prefix;
mod root;
mod target;
mod tree;
mod value;
mod view;

pub use advice::{Advice, Question, Setting};
pub use advisor::Advisor;
