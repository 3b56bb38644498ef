//! The log files that workers have open, read along.
