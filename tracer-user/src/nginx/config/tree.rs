//! The configuration as a tree of directives, includes resolved in place.

use std::{collections::HashMap, sync::Arc};

use super::{
    lexer::{End, Lexer},
    prefix,
};
use crate::model::configured::Place;

/// Includes within includes, and blocks within blocks.
const DEPTH: usize = 32;
/// Words kept of one configuration, names of directives among them; large generated ones have some hundred thousand.
const WORDS: usize = 1_000_000;
/// Files that includes may name, each time they do.
const INCLUDES: usize = 20_000;
/// Reasons kept, for people.
const PROBLEMS: usize = 8;

/// One file, as read.
#[derive(Clone, Debug)]
pub(super) struct Text {
    pub(super) bytes: Vec<u8>,
    /// Wall clock, ns since 1970: when its content, or what its name leads to, was last changed.
    pub(super) changed_ns: i128,
}

/// Names that an include's pattern stands for.
#[derive(Clone, Debug, Default)]
pub(super) struct Listing {
    /// In nginx's order: by bytes.
    pub(super) names: Vec<String>,
    /// When one of the directories got or lost a name; as in `Text`.
    pub(super) changed_ns: i128,
}

/// Where files come from. Errors are reasons for people, without the file's name.
pub(super) trait Files {
    fn read(&mut self, path: &str) -> Result<Text, String>;
    fn list(&mut self, pattern: &str) -> Result<Listing, String>;
}

/// What is not known about an include.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Gap {
    /// Some of what it stands for could not be read.
    Unread,
    /// It was a pattern; names may have come or gone since its directories were changed.
    Listed { changed_ns: i128 },
}

/// A directive, or a block with its directives.
#[derive(Clone, Debug)]
pub(super) struct Directive {
    pub(super) name: String,
    pub(super) arguments: Vec<String>,
    file: u32,
    /// Of its first word, from 1: where people look.
    pub(super) line: u32,
    /// Of its `;` or `{`: where nginx says it is.
    end_line: u32,
    pub(super) block: Option<Vec<Directive>>,
    pub(super) gap: Option<Gap>,
}

impl Directive {
    /// Read from the same line, perhaps of a file that is included twice.
    pub(super) fn is_same_line(&self, other: &Self) -> bool {
        (self.file, self.line, self.end_line, &self.name, &self.arguments)
            == (other.file, other.line, other.end_line, &other.name, &other.arguments)
    }
}

#[derive(Clone, Debug)]
struct File {
    path: String,
    changed_ns: i128,
}

/// All files of one configuration.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    pub(super) main: Vec<Directive>,
    files: Vec<File>,
    /// What could not be read, and why.
    pub(super) problems: Vec<String>,
}

impl Tree {
    /// Where people look for it.
    pub(super) fn place(&self, directive: &Directive) -> Place {
        Place { file: self.path(directive).to_owned(), line: directive.line }
    }

    /// Is this the block, or the directive, that nginx calls by this place?
    pub(super) fn is_at(&self, directive: &Directive, place: &Place) -> bool {
        directive.end_line == place.line && self.path(directive) == place.file
    }

    /// When the file that it stands in was last changed; as in `Text`.
    pub(super) fn changed_ns(&self, directive: &Directive) -> i128 {
        self.files.get(directive.file as usize).map_or(i128::MAX, |file| file.changed_ns)
    }

    /// Files changed after a time.
    pub(super) fn changed_after(&self, time_ns: i128) -> impl Iterator<Item = &str> {
        self.files.iter().filter(move |file| file.changed_ns > time_ns).map(|file| file.path.as_str())
    }

    fn path(&self, directive: &Directive) -> &str {
        self.files.get(directive.file as usize).map_or("", |file| file.path.as_str())
    }
}

/// Reads a configuration, and directives of the command line (`-g`); the reason where its main file cannot be used.
pub(super) fn read(files: &mut dyn Files, path: &str, command_line: Option<&str>) -> Result<Tree, String> {
    let mut reader = Reader {
        files,
        directory: prefix::directory(path).to_owned(),
        texts: HashMap::new(),
        tree: Tree { main: Vec::new(), files: Vec::new(), problems: Vec::new() },
        words: 0,
        includes: 0,
    };
    let (text, file) = reader.open(path).map_err(|reason| format!("{path}: {reason}"))?;
    let mut lexer = Lexer::new(&text);
    let main = reader.block(&mut lexer, file, Context::TOP).map_err(|reason| format!("{path}: {reason}"))?;
    let given = command_line.map(|text| reader.given(text));
    let Reader { mut tree, .. } = reader;
    tree.main = main;
    tree.main.extend(given.into_iter().flatten());
    Ok(tree)
}

/// How deep, and whether directives are nginx's own here: `map`, `types` and the like hold data.
#[derive(Clone, Copy)]
struct Context {
    depth: usize,
    /// Within a block, which must be closed; else the file's end is the end.
    inside: bool,
    data: bool,
}

impl Context {
    const TOP: Self = Self { depth: 0, inside: false, data: false };
}

struct Reader<'a> {
    files: &'a mut dyn Files,
    /// Of the main file: what relative includes are relative to (`conf_prefix`, `ngx_process_options()`, src/core/nginx.c).
    directory: String,
    /// Read already, with their numbers.
    texts: HashMap<String, (Arc<[u8]>, u32)>,
    tree: Tree,
    words: usize,
    includes: usize,
}

impl Reader<'_> {
    fn open(&mut self, path: &str) -> Result<(Arc<[u8]>, u32), String> {
        if let Some((text, number)) = self.texts.get(path) {
            return Ok((Arc::clone(text), *number));
        }
        let Text { bytes, changed_ns } = self.files.read(path)?;
        let number = u32::try_from(self.tree.files.len()).map_err(|_| "too many files".to_owned())?;
        self.tree.files.push(File { path: path.to_owned(), changed_ns });
        let text: Arc<[u8]> = bytes.into();
        self.texts.insert(path.to_owned(), (Arc::clone(&text), number));
        Ok((text, number))
    }

    /// Directives of `-g`; the title of a process does not tell whether it is whole.
    fn given(&mut self, text: &str) -> Vec<Directive> {
        let Ok(file) = u32::try_from(self.tree.files.len()) else { return Vec::new() };
        self.tree.files.push(File { path: "-g".to_owned(), changed_ns: 0 });
        // The last semicolon may be left out (ngx_conf_param(), src/core/ngx_conf_file.c).
        let text = format!("{};", text.trim_end_matches([';', ' ']));
        self.block(&mut Lexer::new(text.as_bytes()), file, Context::TOP).unwrap_or_else(|reason| {
            self.problem("-g", &reason);
            Vec::new()
        })
    }

    fn block(&mut self, lexer: &mut Lexer<'_>, file: u32, context: Context) -> Result<Vec<Directive>, String> {
        let mut block = Vec::new();
        loop {
            let Some(statement) = lexer.statement().map_err(|error| error.to_string())? else {
                return if context.inside { Err("a block is not closed".to_owned()) } else { Ok(block) };
            };
            let word_count = statement.words.len();
            let mut words = statement.words.into_iter();
            let Some(name) = words.next() else {
                // Only a closing brace has no words.
                return if context.inside {
                    Ok(block)
                } else {
                    Err(format!("line {}: unexpected '}}'", statement.line))
                };
            };
            self.words += word_count;
            if self.words > WORDS {
                return Err(format!("more than {WORDS} words"));
            }
            let mut directive = Directive {
                name,
                arguments: words.collect(),
                file,
                line: statement.line,
                end_line: statement.end_line,
                block: None,
                gap: None,
            };
            let mut included = Vec::new();
            match statement.end {
                End::Open => {
                    let data = context.data || is_data(&directive.name);
                    if context.depth >= DEPTH {
                        return Err(format!("line {}: more than {DEPTH} blocks in each other", statement.line));
                    }
                    let inner = Context { depth: context.depth + 1, inside: true, data };
                    directive.block = Some(self.block(lexer, file, inner)?);
                }
                End::Directive if directive.name == "include" && !context.data => {
                    included = self.include(&mut directive, context);
                }
                End::Directive | End::Close | End::Lua => {}
            }
            block.push(directive);
            block.append(&mut included);
        }
    }

    /// What an include stands for; its gap says what is not known of it.
    fn include(&mut self, directive: &mut Directive, context: Context) -> Vec<Directive> {
        let [name] = directive.arguments.as_slice() else {
            directive.gap = Some(Gap::Unread);
            return Vec::new();
        };
        let name = prefix::join(&self.directory, name);
        // ngx_conf_include(), src/core/ngx_conf_file.c: the same three characters make a pattern.
        let names = if name.contains(['*', '?', '[']) {
            match self.files.list(&name) {
                Ok(listing) => {
                    directive.gap = Some(Gap::Listed { changed_ns: listing.changed_ns });
                    listing.names
                }
                Err(reason) => {
                    directive.gap = Some(Gap::Unread);
                    self.problem(&name, &reason);
                    return Vec::new();
                }
            }
        } else {
            vec![name]
        };
        let mut included = Vec::new();
        for name in names {
            match self.file(&name, context) {
                Ok(mut directives) => included.append(&mut directives),
                Err(reason) => {
                    directive.gap = Some(Gap::Unread);
                    self.problem(&name, &reason);
                }
            }
        }
        included
    }

    fn file(&mut self, name: &str, context: Context) -> Result<Vec<Directive>, String> {
        self.includes += 1;
        if self.includes > INCLUDES {
            return Err(format!("more than {INCLUDES} includes"));
        }
        if context.depth >= DEPTH {
            return Err(format!("more than {DEPTH} includes in each other"));
        }
        let (text, file) = self.open(name)?;
        let context = Context { depth: context.depth + 1, inside: false, data: context.data };
        self.block(&mut Lexer::new(&text), file, context)
    }

    fn problem(&mut self, file: &str, reason: &str) {
        if self.tree.problems.len() < PROBLEMS {
            self.tree.problems.push(format!("{file}: {reason}"));
        }
    }
}

/// Blocks whose words are values, not directives.
fn is_data(name: &str) -> bool {
    matches!(name, "map" | "geo" | "types" | "split_clients" | "charset_map" | "match" | "perl")
}

#[cfg(test)]
pub(super) mod tests;
