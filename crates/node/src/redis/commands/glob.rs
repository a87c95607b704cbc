//! Matches the patterns of SCAN and CONFIG GET.

/// True if `text` matches `pattern`: `*`, `?`, `[a-c]`, `[^a]` and `\` as Redis reads them.
///
/// Time is O(pattern × text): only the last `*` is ever tried again, because a match of an earlier
/// one can't be improved by moving it (Krauss' observation). A recursive matcher is exponential,
/// and the pattern comes from the network.
#[must_use]
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut pattern_at, mut text_at) = (0, 0);
    // Where to continue after the last `*`: the pattern after it, and one byte further in the text.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        if pattern.get(pattern_at) == Some(&b'*') {
            pattern_at += 1;
            retry = Some((pattern_at, text_at));
            continue;
        }
        if text_at == text.len() && pattern_at == pattern.len() {
            return true;
        }
        if let Some(&byte) = text.get(text_at)
            && let Some(length) = match_one(&pattern[pattern_at..], byte)
        {
            pattern_at += length;
            text_at += 1;
            continue;
        }
        match &mut retry {
            Some((behind, from)) if *from < text.len() => {
                *from += 1;
                (pattern_at, text_at) = (*behind, *from);
            }
            _ => return false,
        }
    }
}

/// Bytes of the pattern's first element if it matches `byte`.
fn match_one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'\\', escaped, ..] => (*escaped == byte).then_some(2),
        [b'[', class @ ..] => {
            let (matched, length) = match_class(class, byte);
            matched.then_some(1 + length)
        }
        [literal, ..] => (*literal == byte).then_some(1),
    }
}

/// Whether the class (behind its `[`) holds `byte`, and its length with `]`. An open class ends
/// with the pattern.
fn match_class(class: &[u8], byte: u8) -> (bool, usize) {
    let negated = class.first() == Some(&b'^');
    let mut at = usize::from(negated);
    let mut found = false;
    loop {
        match &class[at..] {
            [] => return (found != negated, at),
            [b']', ..] => return (found != negated, at + 1),
            [b'\\', escaped, ..] => {
                found |= *escaped == byte;
                at += 2;
            }
            [low, b'-', high, ..] => {
                found |= (*low.min(high)..=*low.max(high)).contains(&byte);
                at += 3;
            }
            [one, ..] => {
                found |= *one == byte;
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_redis() {
        let table: &[(&str, &str, bool)] = &[
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("user:*", "user:1", true),
            ("user:*", "use", false),
            ("*a*b*c", "xxaxbxbxc", true),
            ("*a*b*c", "xxaxbxbx", false),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h[ae]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[b-a]llo", "hbllo", true),
            ("h[ae", "ha", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("a\\", "a\\", true),
            ("**a**", "bab", true),
        ];
        for &(pattern, text, expected) in table {
            let found = matches(pattern.as_bytes(), text.as_bytes());
            assert_eq!(found, expected, "{pattern} on {text}");
        }
    }

    /// Goal: a hostile pattern takes no exponential time. Method: it would never end if it did.
    #[test]
    fn hostile_patterns_end() {
        let pattern = "a*".repeat(500) + "b";
        assert!(!matches(pattern.as_bytes(), &[b'a'; 2_000]));
    }
}
