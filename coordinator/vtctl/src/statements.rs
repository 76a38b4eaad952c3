//! Cuts a text into SQL statements, as the `mysql` client does: strings, quoted names and comments are seen, `DELIMITER` is obeyed.

/// A text that cannot be cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// What is not closed.
    pub what: &'static str,
    /// The line on which it begins, from 1.
    pub line: usize,
}

impl std::fmt::Display for Unfinished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} that begins on line {} is not closed",
            self.what, self.line
        )
    }
}

/// The statements of a text, without delimiters, outer white space and the comments before them.
pub fn split(text: &str) -> Result<Vec<String>, Unfinished> {
    let mut splitter = Splitter {
        text,
        at: 0,
        start: 0,
        meaningful: false,
        delimiter: ";".to_owned(),
        statements: Vec::new(),
    };
    while splitter.at < text.len() {
        splitter.step()?;
    }
    splitter.cut();
    Ok(splitter.statements)
}

struct Splitter<'a> {
    text: &'a str,
    at: usize,
    /// Where the statement that is being read begins: after the comments before it.
    start: usize,
    /// Whether it has more than comments and white space so far.
    meaningful: bool,
    delimiter: String,
    statements: Vec<String>,
}

impl Splitter<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn step(&mut self) -> Result<(), Unfinished> {
        let rest = self.rest();
        if rest.starts_with(&self.delimiter) {
            let length = self.delimiter.len();
            self.cut();
            self.at += length;
            self.start = self.at;
            return Ok(());
        }
        if let Some(delimiter) = self.delimiter_command() {
            self.delimiter = delimiter;
            self.at += rest_of_line(self.rest());
            self.start = self.at;
            return Ok(());
        }
        if is_line_comment(rest) {
            self.at += rest_of_line(rest);
            return Ok(());
        }
        if rest.starts_with("/*") {
            // What stands in /*! */ is executed, and hints in /*+ */ belong to what is.
            let executed = rest.starts_with("/*!");
            let length = closed(rest, 2, "*/").ok_or_else(|| self.unfinished("a comment"))?;
            self.take(length, executed);
            return Ok(());
        }
        let Some(character) = rest.chars().next() else {
            return Ok(());
        };
        let length = match character {
            '\'' | '"' | '`' => quoted(rest, character).ok_or_else(|| {
                self.unfinished(if character == '`' {
                    "a quoted name"
                } else {
                    "a string"
                })
            })?,
            _ => character.len_utf8(),
        };
        self.take(length, !character.is_whitespace());
        Ok(())
    }

    fn take(&mut self, length: usize, meaningful: bool) {
        if meaningful && !self.meaningful {
            self.start = self.at;
            self.meaningful = true;
        }
        self.at += length;
    }

    /// The word after `DELIMITER`, where the client's command stands: between statements.
    fn delimiter_command(&self) -> Option<String> {
        if self.meaningful {
            return None;
        }
        let rest = self.rest();
        let line = &rest[..rest_of_line(rest)];
        let (word, delimiter) = line.split_once(char::is_whitespace)?;
        let delimiter = delimiter.trim();
        (word.eq_ignore_ascii_case("delimiter") && !delimiter.is_empty())
            .then(|| delimiter.to_owned())
    }

    fn cut(&mut self) {
        if self.meaningful {
            self.statements
                .push(self.text[self.start..self.at].trim().to_owned());
        }
        self.meaningful = false;
    }

    fn unfinished(&self, what: &'static str) -> Unfinished {
        let line = self.text[..self.at].matches('\n').count() + 1;
        Unfinished { what, line }
    }
}

/// `#`, or `--` followed by white space or the end.
fn is_line_comment(rest: &str) -> bool {
    let dashes = rest.strip_prefix("--");
    rest.starts_with('#')
        || dashes.is_some_and(|after| after.chars().next().is_none_or(char::is_whitespace))
}

/// The bytes up to and with the line's end.
fn rest_of_line(rest: &str) -> usize {
    rest.find('\n').map_or(rest.len(), |at| at + 1)
}

/// The bytes up to and with the closing mark, which is looked for from `from` on.
fn closed(rest: &str, from: usize, mark: &str) -> Option<usize> {
    rest[from..].find(mark).map(|at| from + at + mark.len())
}

/// The bytes of what is quoted. A doubled quote needs no care: it ends one string and begins the next.
fn quoted(rest: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, character) in rest.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' if quote != '`' => escaped = true,
            _ if character == quote => return Some(at + 1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_cut() {
        let cases: [(&str, &[&str]); 16] = [
            ("", &[]),
            (" ;; ; ", &[]),
            ("a; b ;c", &["a", "b", "c"]),
            ("a ';' b; c", &["a ';' b", "c"]),
            (r#"a "x\";" b; c"#, &[r#"a "x\";" b"#, "c"]),
            ("a 'it''s;'; b", &["a 'it''s;'", "b"]),
            (r"a `\`; b", &[r"a `\`", "b"]),
            ("a -- ; x\n b; c", &["a -- ; x\n b", "c"]),
            ("a # ; x\n; b", &["a # ; x", "b"]),
            ("a /* ; ' */ b; c", &["a /* ; ' */ b", "c"]),
            ("-- only\n/* comments */;a", &["a"]),
            ("/*!80000 SET x = 1 */; a", &["/*!80000 SET x = 1 */", "a"]),
            ("a--1; b", &["a--1", "b"]),
            (
                "DELIMITER //\nCREATE x BEGIN a; b; END//\ndelimiter ;\nc; d",
                &["CREATE x BEGIN a; b; END", "c", "d"],
            ),
            ("-- x\nCREATE TABLE é (a INT);", &["CREATE TABLE é (a INT)"]),
            ("a --", &["a --"]),
        ];
        for (text, expected) in cases {
            assert_eq!(split(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_closed_is_named_with_its_line() {
        for (text, what, line) in [
            ("a;\n'b", "a string", 2),
            ("`b;", "a quoted name", 1),
            ("\n\n/* b;", "a comment", 3),
            (r#"a "\""#, "a string", 1),
            ("/*/", "a comment", 1),
        ] {
            assert_eq!(
                split(text).unwrap_err(),
                Unfinished { what, line },
                "{text}"
            );
        }
    }
}
