//! The frozen settings, and the way to read them.

use tracer_common::settings::Settings;

/// Overwritten by user space before loading, then frozen: the verifier knows each field's value.
#[unsafe(no_mangle)]
static SETTINGS: Settings = Settings::DEFAULT;

/// Reads one field of the settings: `setting!(offsets.sock_err)`.
///
/// Volatile, or rustc would fold in the default values.
macro_rules! setting {
    ($($field:tt)+) => {{
        // SAFETY: the static is valid for reads for the whole life of the program.
        unsafe { core::ptr::read_volatile(&raw const (*$crate::settings::address()).$($field)+) }
    }};
}

pub(crate) use setting;

#[inline(always)]
pub(crate) fn address() -> *const Settings {
    &raw const SETTINGS
}
