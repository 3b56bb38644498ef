//! Which file a master was started with: from its title, and from what its binary was built with. Pure.

/// Options of a command line that say where the configuration is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// `-c`
    pub(super) file: Option<String>,
    /// `-p`
    pub(super) prefix: Option<String>,
    /// `-g`: directives.
    pub(super) directives: Option<String>,
}

/// What a binary was built with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Built {
    /// `--conf-path`
    pub(super) file: String,
    /// `--prefix`; None where it is the directory in which nginx is started.
    pub(super) prefix: Option<String>,
}

const TITLE: &str = ": master process ";

impl Options {
    /// From /proc/PID/cmdline of a master, whose title has the arguments joined by spaces (ngx_setproctitle() and
    /// ngx_master_process_cycle(), src/os/unix), or of a process without a title, where they are apart.
    pub(super) fn read(command_line: &[u8]) -> Self {
        let text = String::from_utf8_lossy(command_line);
        let text = text.trim_end_matches(['\0', ' ']);
        match text.split_once(TITLE) {
            Some((_, joined)) => Self::joined(joined),
            None => Self::apart(&text.split('\0').collect::<Vec<_>>()),
        }
    }

    /// Arguments that held spaces (`-g 'daemon off;'`) have lost their ends: one ends where the next option begins.
    fn joined(text: &str) -> Self {
        let mut arguments: Vec<String> = Vec::new();
        for word in text.split(' ').skip(1) {
            match arguments.last_mut() {
                Some(last) if !is_option(word) && value_follows(last) => arguments.push(word.to_owned()),
                Some(last) if !is_option(word) => {
                    last.push(' ');
                    last.push_str(word);
                }
                _ => arguments.push(word.to_owned()),
            }
        }
        Self::scan(arguments.iter().map(String::as_str))
    }

    fn apart(arguments: &[&str]) -> Self {
        Self::scan(arguments.iter().skip(1).copied())
    }

    /// As ngx_get_options(), src/core/nginx.c: letters may stand together, and a value in the same or the next argument.
    fn scan<'a>(mut arguments: impl Iterator<Item = &'a str>) -> Self {
        let mut options = Self::default();
        while let Some(argument) = arguments.next() {
            let Some(letters) = argument.strip_prefix('-') else { continue };
            for (at, letter) in letters.char_indices() {
                if !takes_value(letter) {
                    continue;
                }
                let rest = &letters[at + letter.len_utf8()..];
                let value = if rest.is_empty() { arguments.next() } else { Some(rest) };
                let value = value.map(str::to_owned);
                match letter {
                    'c' => options.file = value,
                    'p' => options.prefix = value,
                    'g' => options.directives = value,
                    _ => {}
                }
                break;
            }
        }
        options
    }
}

const fn takes_value(letter: char) -> bool {
    matches!(letter, 'c' | 'p' | 'g' | 'e' | 's')
}

/// Begins with a dash and letters of options alone, up to one that takes a value.
fn is_option(word: &str) -> bool {
    let Some(letters) = word.strip_prefix('-') else { return false };
    let known = |letter: char| matches!(letter, '?' | 'h' | 'v' | 'V' | 't' | 'T' | 'q');
    letters.chars().find(|letter| !known(*letter)).map_or(!letters.is_empty(), takes_value)
}

/// An option that ends with the letter whose value is the next argument.
fn value_follows(argument: &str) -> bool {
    is_option(argument) && {
        let letters = &argument[1..];
        letters.find(takes_value).is_some_and(|at| at + 1 == letters.len())
    }
}

impl Built {
    /// From a binary: the help that `nginx -h` prints holds both (ngx_show_version_info(), src/core/nginx.c). None: it
    /// is no nginx.
    pub(super) fn find(binary: &[u8]) -> Option<Self> {
        let value = |literal: &[u8]| {
            let begin = find(binary, literal)? + literal.len();
            let rest = &binary[begin..binary.len().min(begin + LONGEST)];
            let end = rest.iter().position(|byte| matches!(byte, b')' | b'\n' | 0))?;
            let value = String::from_utf8_lossy(&rest[..end]).into_owned();
            (value != "NONE").then_some(value)
        };
        let file = value(b"set configuration file (default: ")?;
        Some(Self { file, prefix: value(b"set prefix path (default: ") })
    }
}

/// Bytes of a path.
const LONGEST: usize = 4096;

/// The first place of `what`; its first byte is rare enough in code to make this quick.
fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    let first = *what.first()?;
    let mut from = 0;
    loop {
        let at = from + text.get(from..)?.iter().position(|byte| *byte == first)?;
        if text[at..].starts_with(what) {
            return Some(at);
        }
        from = at + 1;
    }
}

/// The main file, as ngx_process_options() (src/core/nginx.c) makes it out; relative to the master's working directory.
/// None: it would take the binary to know.
pub(super) fn locate(options: &Options, built: Option<&Built>) -> Option<String> {
    let file = options.file.as_ref().or(built.map(|built| &built.file))?;
    if file.starts_with('/') {
        return Some(file.clone());
    }
    let prefix = match &options.prefix {
        Some(prefix) => prefix.as_str(),
        None => built?.prefix.as_deref().unwrap_or_default(),
    };
    Some(join(prefix, file))
}

/// A name relative to a directory; absolute ones stay.
pub(super) fn join(directory: &str, name: &str) -> String {
    if name.starts_with('/') {
        name.to_owned()
    } else if directory.is_empty() || directory.ends_with('/') {
        format!("{directory}{name}")
    } else {
        format!("{directory}/{name}")
    }
}

/// The directory of a file, with its slash.
pub(super) fn directory(path: &str) -> &str {
    path.rfind('/').map_or("", |at| &path[..=at])
}

#[cfg(test)]
mod tests {
    use super::{Built, Options, directory, join, locate};

    fn built() -> Built {
        Built { file: "conf/nginx.conf".into(), prefix: Some("/usr/local/nginx/".into()) }
    }

    #[test]
    fn options_of_a_title() {
        for (title, file, prefix) in [
            ("nginx: master process nginx", None, None),
            ("nginx: master process /usr/sbin/nginx -g daemon on; master_process on;", None, None),
            ("nginx: master process nginx -c /tmp/a.conf -p /srv", Some("/tmp/a.conf"), Some("/srv")),
            ("nginx: master process nginx -g daemon off; error_log -x; -c a.conf\0\0", Some("a.conf"), None),
            ("nginx: master process nginx -qc/tmp/a -p/b", Some("/tmp/a"), Some("/b")),
            ("nginx: master process nginx -c /srv/with space.conf -e x", Some("/srv/with space.conf"), None),
            ("angie: master process angie -qc a", Some("a"), None),
            ("nginx\0-c\0/a b.conf\0-g\0-c x;", Some("/a b.conf"), None),
            ("nginx: master process nginx -c", None, None),
            ("", None, None),
        ] {
            let options = Options::read(title.as_bytes());
            assert_eq!((options.file.as_deref(), options.prefix.as_deref()), (file, prefix), "{title}");
        }
    }

    #[test]
    fn directives_of_a_title() {
        let of = |title: &str| Options::read(title.as_bytes()).directives;
        assert_eq!(
            of("nginx: master process nginx -g daemon on; master_process on;").as_deref(),
            Some("daemon on; master_process on;")
        );
        assert_eq!(of("nginx: master process nginx -gdaemon off; -q").as_deref(), Some("daemon off;"));
        assert_eq!(of("nginx: master process nginx"), None);
    }

    #[test]
    fn what_the_binary_says() {
        let help = b"\x7fELF\0set prefix\0  -p prefix     : set prefix path (default: /usr/local/nginx/)\n\
                     -c filename   : set configuration file (default: conf/nginx.conf)\n\0";
        assert_eq!(Built::find(help), Some(built()));
        assert_eq!(
            Built::find(b"set prefix path (default: NONE)\nset configuration file (default: a)\n"),
            Some(Built { file: "a".into(), prefix: None })
        );
        assert_eq!(Built::find(b"set configuration file (default: "), None);
        assert_eq!(Built::find(b""), None);
    }

    #[test]
    fn where_the_file_is() {
        let at = |file: Option<&str>, prefix: Option<&str>, built: Option<Built>| {
            let options = Options { file: file.map(Into::into), prefix: prefix.map(Into::into), directives: None };
            locate(&options, built.as_ref())
        };
        assert_eq!(at(None, None, Some(built())).as_deref(), Some("/usr/local/nginx/conf/nginx.conf"));
        assert_eq!(at(None, Some("/srv"), Some(built())).as_deref(), Some("/srv/conf/nginx.conf"));
        assert_eq!(at(Some("a.conf"), Some("x"), None).as_deref(), Some("x/a.conf"));
        assert_eq!(at(Some("/a.conf"), Some("/srv"), None).as_deref(), Some("/a.conf"));
        assert_eq!(at(Some("a.conf"), None, None), None);
        assert_eq!(at(None, None, None), None);
        let package = Built { file: "/etc/nginx/nginx.conf".into(), prefix: Some("/usr/share/nginx/".into()) };
        assert_eq!(at(None, Some("/srv"), Some(package)).as_deref(), Some("/etc/nginx/nginx.conf"));
    }

    #[test]
    fn directories() {
        assert_eq!(directory("/etc/nginx/nginx.conf"), "/etc/nginx/");
        assert_eq!(directory("nginx.conf"), "");
        assert_eq!(join("/etc/nginx/", "mime.types"), "/etc/nginx/mime.types");
        assert_eq!(join("/etc/nginx", "/mime.types"), "/mime.types");
    }
}
