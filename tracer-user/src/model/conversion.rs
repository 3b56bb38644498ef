//! The conversions in nginx's literals.

/// Skips one conversion of `ngx_vslprintf()` (src/core/ngx_string.c), after its `%`: [`0`][width][`u`|`m`|`x`|`X`|`.n`|`*`] and a letter.
pub fn after_conversion(text: &str) -> &str {
    let is_flag = |letter: char| letter.is_ascii_digit() || matches!(letter, 'u' | 'm' | 'x' | 'X' | '.' | '*');
    let mut letters = text.trim_start_matches(is_flag).chars();
    letters.next();
    letters.as_str()
}
