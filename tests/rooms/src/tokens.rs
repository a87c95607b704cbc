//! The words and signs of a source text, without comments, literals and tests.

/// A token: a word (identifiers, keywords, numbers) or one sign; `::` is one sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    Word(&'a str),
    Sign(&'a str),
}

/// The tokens of `text` up to its inline tests.
pub(crate) fn tokens(text: &str) -> Vec<Token<'_>> {
    let text = text.find("#[cfg(test)]\nmod tests {").map_or(text, |tests| &text[..tests]);
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if let Some(length) = blank_length(rest) {
            length
        } else if first.is_alphanumeric() || first == '_' {
            let is_of_word = |c: char| c.is_alphanumeric() || c == '_';
            let length = rest.find(|c| !is_of_word(c)).unwrap_or(rest.len());
            tokens.push(Token::Word(&rest[..length]));
            length
        } else {
            let length = if rest.starts_with("::") { 2 } else { first.len_utf8() };
            tokens.push(Token::Sign(&rest[..length]));
            length
        };
        rest = &rest[length..];
    }
    tokens
}

/// How long the space, comment or literal is that `text` begins with; `None` if it begins with none.
fn blank_length(text: &str) -> Option<usize> {
    let first = text.chars().next()?;
    if first.is_whitespace() {
        return Some(first.len_utf8());
    }
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if text.starts_with("/*") {
        return Some(text.find("*/").map_or(text.len(), |end| end + 2));
    }
    if let Some(raw) = text.strip_prefix('r')
        && (raw.starts_with('"') || raw.starts_with("#\"") || raw.starts_with("##\""))
    {
        let signs = raw.find('"')?;
        let end = format!("\"{}", "#".repeat(signs));
        let body = &raw[signs + 1..];
        return Some(1 + signs + 1 + body.find(&end).map_or(body.len(), |at| at + end.len()));
    }
    if first == '"' {
        return Some(quoted_length(text, '"'));
    }
    if first == '\'' {
        // A literal, or a lifetime: that has no second quote after one character.
        let mut after = text[1..].chars();
        return match (after.next(), after.next()) {
            (Some('\\'), _) => Some(quoted_length(text, '\'')),
            (Some(one), Some('\'')) => Some(2 + one.len_utf8()),
            _ => Some(1),
        };
    }
    None
}

/// The length of the literal that `text` begins with, both of its quotes included.
fn quoted_length(text: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            _ if character == quote => return at + quote.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_literals_and_tests_are_left_out() {
        let text = r##"// crate::a
            fn f<'a>(x: &'a str) -> char { let _ = ("crate::b \" \\", r#"crate::"c"#, 'x', '\''); d::e }
            #[cfg(test)]
mod tests { use crate::g; }"##;
        let words: Vec<&str> = tokens(text)
            .into_iter()
            .filter_map(|token| match token {
                Token::Word(word) => Some(word),
                Token::Sign(_) => None,
            })
            .collect();
        assert_eq!(words, ["fn", "f", "a", "x", "a", "str", "char", "let", "_", "d", "e"]);
    }
}
