//! Which path may have been meant. Pure.

use strsim::levenshtein as edits;

/// Names that differ more are different.
const EDITS: usize = 2;
/// Shorter names are alike by chance.
const LENGTH: usize = 5;

/// How one path is like another, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Likeness {
    /// In the same directory, but for digits: another version.
    Version,
    /// In the same directory, but for a letter or two.
    Spelling,
    /// The same name in another directory.
    Moved,
}

/// How `other` is like `wanted`; None: it is not, or is the same.
pub fn likeness(wanted: &str, other: &str) -> Option<Likeness> {
    let (wanted, other) = (plain(wanted), plain(other));
    let ((directory, name), (other_directory, other_name)) = (wanted.rsplit_once('/')?, other.rsplit_once('/')?);
    let same_directory = directory == other_directory;
    let letters = |name: &str| name.chars().filter(|letter| !letter.is_ascii_digit()).collect::<String>();
    match () {
        () if wanted == other => None,
        () if same_directory && letters(name) == letters(other_name) => Some(Likeness::Version),
        () if same_directory && name.len() >= LENGTH && edits(name, other_name) <= EDITS => Some(Likeness::Spelling),
        () if name == other_name && name.len() >= LENGTH => Some(Likeness::Moved),
        () => None,
    }
}

/// /var/run is a link to /run nearly everywhere.
pub fn plain(path: &str) -> &str {
    path.strip_prefix("/var").filter(|rest| rest.starts_with("/run/")).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::{Likeness, edits, likeness};

    #[test]
    fn what_may_have_been_meant() {
        for (wanted, other, expected) in [
            ("/run/php/php8.2-fpm.sock", "/run/php/php8.3-fpm.sock", Some(Likeness::Version)),
            ("/var/run/php/php8.2-fpm.sock", "/run/php/php-fpm.sock", None),
            ("/var/run/php/php8-fpm.sock", "/run/php/php-fpm.sock", Some(Likeness::Version)),
            ("/run/app/gunicorn.sock", "/run/app/gunicon.sock", Some(Likeness::Spelling)),
            ("/run/app/gunicorn.sock", "/run/gunicorn.sock", Some(Likeness::Moved)),
            ("/run/a.sock", "/run/b.sock", Some(Likeness::Spelling)),
            ("/run/docker.sock", "/run/app.sock", None),
            ("/run/app.sock", "/run/app.sock", None),
            ("/var/run/app.sock", "/run/app.sock", None),
            ("/a/x", "/b/x", None),
            ("relative", "/run/relative", None),
        ] {
            assert_eq!(likeness(wanted, other), expected, "{wanted} {other}");
        }
    }

    #[test]
    fn distances() {
        assert_eq!((edits("", "abc"), edits("abc", ""), edits("abc", "abc"), edits("kitten", "sitting")), (3, 3, 0, 3));
    }
}
