//! The paths that a source text names, and what its `use` lines pass on under which name.

use crate::tokens::{Token, tokens};

/// One file of a crate that names something of another one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Import {
    /// The file that names it, as a path below `src`.
    pub from: String,
    /// The file that has it.
    pub to: String,
}

/// A path as written, and whether it is passed on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) segments: Vec<String>,
    /// The name under which a `use` line brings it in.
    pub(crate) alias: Option<String>,
    /// True for `pub use` and its brothers.
    pub(crate) is_passed_on: bool,
}

/// All paths of `text` that may be of its own crate: those of `use` lines, and those that begin with
/// `crate`, `self` or `super` anywhere.
pub(crate) fn named(text: &str) -> Vec<Named> {
    let tokens = tokens(text);
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let follows_path = at > 0 && tokens[at - 1] == Token::Sign("::");
        match tokens[at] {
            Token::Word("use") => {
                let is_passed_on = is_public(&tokens[..at]);
                let mut reader = Reader { tokens: &tokens, at: at + 1, found: &mut found };
                reader.tree(&[], Some(is_passed_on));
                at = reader.at;
            }
            Token::Word("crate" | "self" | "super")
                if !follows_path && tokens.get(at + 1) == Some(&Token::Sign("::")) =>
            {
                let mut reader = Reader { tokens: &tokens, at, found: &mut found };
                reader.tree(&[], None);
                at = reader.at;
            }
            _ => at += 1,
        }
    }
    found
}

/// True if what stands before a `use` makes it public, to whomever.
fn is_public(before: &[Token<'_>]) -> bool {
    match before {
        [.., Token::Word("pub")] => true,
        [.., Token::Sign(")")] => before
            .iter()
            .rposition(|token| *token == Token::Sign("("))
            .is_some_and(|open| open > 0 && before[open - 1] == Token::Word("pub")),
        _ => false,
    }
}

struct Reader<'a> {
    tokens: &'a [Token<'a>],
    at: usize,
    found: &'a mut Vec<Named>,
}

impl Reader<'_> {
    /// Reads a path, with its groups if it is of a `use` line; `passed_on` is `None` elsewhere.
    fn tree(&mut self, prefix: &[String], passed_on: Option<bool>) {
        let mut segments = prefix.to_vec();
        while let Some(token) = self.tokens.get(self.at) {
            match token {
                Token::Word("as") if passed_on.is_some() => break,
                Token::Word(word) => segments.push((*word).to_owned()),
                Token::Sign("{") if passed_on.is_some() => {
                    self.at += 1;
                    return self.group(&segments, passed_on);
                }
                Token::Sign("*") if passed_on.is_some() => segments.push("*".to_owned()),
                Token::Sign(_) => break,
            }
            self.at += 1;
            if self.tokens.get(self.at) != Some(&Token::Sign("::")) {
                break;
            }
            self.at += 1;
        }
        let mut alias = segments.last().cloned().filter(|_| passed_on.is_some());
        if alias.as_deref() == Some("self") && prefix.len() < segments.len() {
            segments.pop();
            alias = segments.last().cloned();
        }
        if self.tokens.get(self.at) == Some(&Token::Word("as")) && passed_on.is_some() {
            if let Some(Token::Word(word)) = self.tokens.get(self.at + 1) {
                alias = Some((*word).to_owned());
            }
            self.at += 2;
        }
        if !segments.is_empty() {
            self.found.push(Named { segments, alias, is_passed_on: passed_on == Some(true) });
        }
    }

    fn group(&mut self, prefix: &[String], passed_on: Option<bool>) {
        while let Some(token) = self.tokens.get(self.at) {
            match token {
                Token::Sign("}") => {
                    self.at += 1;
                    return;
                }
                Token::Word(_) | Token::Sign("*") => self.tree(prefix, passed_on),
                Token::Sign(_) => self.at += 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str) -> Vec<(String, Option<String>, bool)> {
        let named = named(text).into_iter();
        named.map(|n| (n.segments.join("::"), n.alias, n.is_passed_on)).collect()
    }

    #[test]
    fn use_lines_and_paths_are_found() {
        let text = "use crate::a::{self, b::{C, D as E}, *};
            pub(crate) use f::G;
            fn h() { let _ = crate::i::J::k(self.l, self::m::N); x::crate_(); y::self_::z() }";
        let own = |path: &str, alias: &str, passed| {
            (path.to_owned(), (!alias.is_empty()).then(|| alias.to_owned()), passed)
        };
        let expected = [
            own("crate::a", "a", false),
            own("crate::a::b::C", "C", false),
            own("crate::a::b::D", "E", false),
            own("crate::a::*", "*", false),
            own("f::G", "G", true),
            own("crate::i::J::k", "", false),
            own("self::m::N", "", false),
        ];
        assert_eq!(paths(text), expected);
    }
}
