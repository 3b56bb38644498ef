use proptest::prelude::{any, prop, proptest};

use super::{End, Lexer};

/// One statement a line: `line-end_line kind word|word`.
fn lexed(text: &str) -> String {
    let mut lexer = Lexer::new(text.as_bytes());
    let mut lines = Vec::new();
    loop {
        match lexer.statement() {
            Ok(Some(statement)) => {
                let kind = match statement.end {
                    End::Directive => ";",
                    End::Open => "{",
                    End::Close => "}",
                    End::Lua => "lua",
                };
                let words = statement.words.join("|");
                lines.push(format!("{}-{} {kind} {words}", statement.line, statement.end_line).trim_end().to_owned());
            }
            Ok(None) => return lines.join("\n"),
            Err(error) => {
                lines.push(error.to_string());
                return lines.join("\n");
            }
        }
    }
}

fn check(text: &str, expected: &[&str]) {
    assert_eq!(lexed(text), expected.join("\n"), "{text:?}");
}

#[test]
fn words_blocks_and_lines() {
    check(
        "user www-data;\nhttp {\n\tserver { }\n}\n",
        &["1-1 ; user|www-data", "2-2 { http", "3-3 { server", "3-3 }", "4-4 }"],
    );
    check("a\n  b\n  c\n  ;", &["1-4 ; a|b|c"]);
    check("server\n{}", &["1-2 { server", "2-2 }"]);
    check("a b;c;\r\nd {\r\n}\r\n", &["1-1 ; a|b", "1-1 ; c", "2-2 { d", "3-3 }"]);
    check("", &[]);
    check("  \n# only this", &[]);
}

#[test]
fn comments_begin_where_a_word_could() {
    check("a b; # c; d {\ne#f;", &["1-1 ; a|b", "2-2 ; e#f"]);
    check("a # b;\n c;", &["1-2 ; a|c"]);
}

#[test]
fn quotes_and_backslashes() {
    check(r#"a "b c;{}" 'd "e"' "" ;"#, &[r#"1-1 ; a|b c;{}|d "e"|"#]);
    check(r#"a "x\"y" z\;w \#n;"#, &[r#"1-1 ; a|x"y|z\;w|\#n"#]);
    check(r"a ~* \.php$ \\x;", &[r"1-1 ; a|~*|\.php$|\x"]);
    check("a \"1\n2\" b;", &["1-2 ; a|1\n2|b"]);
    check("a \"x\\ty\\nz\";", &["1-1 ; a|x\ty\nz"]);
    check("a b\"c\"d;", &["1-1 ; a|b\"c\"d"]);
    // if ($x = "y") {: what follows a closing quote may be the parenthesis.
    check("if ($a = \"b\") { }", &["1-1 { if|($a|=|b|)", "1-1 }"]);
    check("a \"b\";", &["1-1 ; a|b"]);
    check("a 'b'{}", &["1-1 { a|b", "1-1 }"]);
}

#[test]
fn braces_of_variables_belong_to_the_word() {
    check("set $a ${b}c;", &["1-1 ; set|$a|${b}c"]);
    check("a x${y}{ }", &["1-1 { a|x${y}", "1-1 }"]);
    check("a \"${b}\";", &["1-1 ; a|${b}"]);
    check("a b}c;", &["1-1 ; a|b}c"]);
}

#[test]
fn lua_is_left_whole() {
    let text =
        "location / {\n content_by_lua_block {\n  local a = {\"}\"} -- }\n  ngx.say(a)\n }\n proxy_pass http://a;\n}";
    check(text, &["1-1 { location|/", "2-2 lua content_by_lua_block", "6-6 ; proxy_pass|http://a", "7-7 }"]);
    check("set_by_lua_block $x { return 1 }\na;", &["1-1 lua set_by_lua_block|$x", "2-2 ; a"]);
    check("content_by_lua_block { '", &["line 1: the file ends within a directive"]);
}

#[test]
fn what_is_wrong_has_its_line() {
    check("a;\n;", &["1-1 ; a", "line 2: unexpected ';'"]);
    check("{", &["line 1: unexpected '{'"]);
    check("a }", &["line 1: unexpected '}'"]);
    check("\na \"b\"c;", &["line 2: unexpected 'c'"]);
    check("\n\na b", &["line 3: the file ends within a directive"]);
    check("a \"b;\n\n", &["line 1: the file ends within a directive"]);
    check("a\\", &["line 1: the file ends within a directive"]);
}

proptest! {
    #[test]
    fn any_bytes_end(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut lexer = Lexer::new(&bytes);
        let mut statements = 0;
        while let Ok(Some(_)) = lexer.statement() {
            statements += 1;
        }
        assert!(statements <= bytes.len());
    }

    #[test]
    fn any_configuration_like_text_ends(text in "([a-z]{1,3}|[ \n\t;{}'\"\\\\$#()]|_by_lua_block|--|\\[\\[|\\]\\]){0,80}") {
        let mut lexer = Lexer::new(text.as_bytes());
        let mut last = 0;
        while let Ok(Some(statement)) = lexer.statement() {
            assert!(statement.end_line >= statement.line && statement.line >= last);
            last = statement.line;
        }
    }
}

#[test]
fn a_directive_has_an_end() {
    let words = "a ".repeat(super::WORDS + 2);
    assert_eq!(lexed(&words), "line 1: a directive of more than 100000 words");
}
