use std::collections::BTreeMap;

use proptest::prelude::{prop, proptest};

use super::{DEPTH, Directive, Files, Gap, Listing, Text, Tree, read};

/// Files in memory: path to text and the time of its last change.
#[derive(Default)]
pub(in crate::nginx::config) struct Memory(pub(in crate::nginx::config) BTreeMap<String, (String, i128)>);

impl Memory {
    pub(in crate::nginx::config) fn of(files: &[(&str, &str)]) -> Self {
        Self(files.iter().map(|(path, text)| ((*path).to_owned(), ((*text).to_owned(), 1))).collect())
    }
}

impl Files for Memory {
    fn read(&mut self, path: &str) -> Result<Text, String> {
        let (text, changed_ns) = self.0.get(path).ok_or("entity not found")?;
        Ok(Text { bytes: text.clone().into_bytes(), changed_ns: *changed_ns })
    }

    fn list(&mut self, pattern: &str) -> Result<Listing, String> {
        let (before, after) = pattern.split_once('*').ok_or("only one asterisk here")?;
        let names = self.0.keys().filter(|name| name.starts_with(before) && name.ends_with(after)).cloned().collect();
        Ok(Listing { names, changed_ns: 1 })
    }
}

fn tree(files: &[(&str, &str)]) -> Tree {
    read(&mut Memory::of(files), "/n/nginx.conf", None).expect("it can be read")
}

fn shown(tree: &Tree, block: &[Directive]) -> String {
    let mut words = Vec::new();
    for directive in block {
        let place = tree.place(directive);
        let mut text = format!("{}@{}:{}", directive.name, place.file, place.line);
        if let Some(inner) = &directive.block {
            text.push_str(&format!("[{}]", shown(tree, inner)));
        }
        words.push(text);
    }
    words.join(" ")
}

#[test]
fn includes_stand_where_they_are_named() {
    let tree = tree(&[
        ("/n/nginx.conf", "http {\n include conf.d/*.conf;\n include /other;\n c;\n}\nd;"),
        ("/n/conf.d/a.conf", "a;\nserver {\n}\n"),
        ("/n/conf.d/b.conf", "b;"),
        ("/other", "e;"),
    ]);
    assert_eq!(
        shown(&tree, &tree.main),
        "http@/n/nginx.conf:1[include@/n/nginx.conf:2 a@/n/conf.d/a.conf:1 server@/n/conf.d/a.conf:2[] \
         b@/n/conf.d/b.conf:1 include@/n/nginx.conf:3 e@/other:1 c@/n/nginx.conf:4] d@/n/nginx.conf:6"
    );
    assert!(tree.problems.is_empty());
}

#[test]
fn what_cannot_be_read_leaves_a_gap() {
    let tree = tree(&[("/n/nginx.conf", "a; include none; include bad; include no/*; b;"), ("/n/bad", "x;\ny }")]);
    let gaps: Vec<_> = tree.main.iter().map(|directive| directive.gap.clone()).collect();
    assert_eq!(gaps, [None, Some(Gap::Unread), Some(Gap::Unread), Some(Gap::Listed { changed_ns: 1 }), None]);
    assert_eq!(tree.problems, ["/n/none: entity not found", "/n/bad: line 2: unexpected '}'"]);
}

#[test]
fn a_main_file_that_is_none_has_a_reason() {
    let reason = |text: &str| read(&mut Memory::of(&[("/a", text)]), "/a", None).map(|_| ()).unwrap_err();
    assert_eq!(reason("http {\n"), "/a: a block is not closed");
    assert_eq!(reason("a;\n}"), "/a: line 2: unexpected '}'");
    assert_eq!(reason("a"), "/a: line 1: the file ends within a directive");
    assert_eq!(reason(&"a {".repeat(DEPTH + 2)), "/a: line 1: more than 32 blocks in each other");
    assert_eq!(read(&mut Memory::default(), "/a", None).map(|_| ()).unwrap_err(), "/a: entity not found");
}

#[test]
fn circles_end() {
    let circle =
        tree(&[("/n/nginx.conf", "a; include nginx.conf; include other;"), ("/n/other", "b; include nginx.conf;")]);
    assert!(!circle.problems.is_empty());
    let wide = "include *.conf;".repeat(50);
    assert!(!tree(&[("/n/nginx.conf", &wide)]).problems.is_empty());
}

#[test]
fn blocks_of_data_include_nothing() {
    let tree =
        tree(&[("/n/nginx.conf", "http { map $a $b { include none; proxy_read_timeout 5s; } types { include x; } }")]);
    assert!(tree.problems.is_empty());
}

#[test]
fn directives_of_the_command_line() {
    let read = |given: &str| read(&mut Memory::of(&[("/a", "x;")]), "/a", Some(given)).expect("it can be read");
    let tree = read("daemon off; worker_rlimit_nofile 7");
    assert_eq!(shown(&tree, &tree.main), "x@/a:1 daemon@-g:1 worker_rlimit_nofile@-g:1");
    assert_eq!(read("daemon }").problems.len(), 1);
    assert!(read("").main.len() == 1);
}

proptest! {
    #[test]
    fn any_files_end(texts in prop::collection::vec("(include [a-c];|include \\*;|[a-z]{1,2} |;|\\{|\\}|\n|\"|map \\{|#){0,40}", 3)) {
        let paths = ["/n/nginx.conf", "/n/a", "/n/b"];
        let files: Vec<_> = paths.into_iter().zip(texts.iter().map(String::as_str)).collect();
        let _ = read(&mut Memory::of(&files), "/n/nginx.conf", Some(&texts[0]));
    }
}
