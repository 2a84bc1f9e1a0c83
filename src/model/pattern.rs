//! Regular expressions as Prometheus reads them, with Go's syntax, compiled by ours.
//!
//! Both engines descend from RE2 and agree on nearly everything. Where they do not, the text is
//! rewritten: `\d`, `\w`, `\s` and `\b` know ASCII only; in brackets `[` and doubled operators have
//! no meaning of their own; a brace that opens no repetition is itself; `\Q…\E` quotes.
//!
//! Source of the syntax: google/re2/doc/syntax.txt, golang/go/src/regexp/syntax/doc.go.

use regex::{Regex, RegexBuilder};

/// Most bytes that one compiled regular expression may take.
const REGEX_BYTES_MAX: usize = 8 << 20;

/// The expression around `source` that matches whole texts, line breaks included, in our syntax.
pub(crate) fn anchored(source: &str) -> String {
    format!("^(?s:{})$", translate(source))
}

/// Compiles what [`anchored`] gives.
pub(crate) fn compile(source: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(&anchored(source)).size_limit(REGEX_BYTES_MAX).build()
}

fn translate(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    // In brackets: whether nothing stands in them yet.
    let mut class: Option<bool> = None;
    while let Some(char) = rest.chars().next() {
        let after = &rest[char.len_utf8()..];
        let is_first = class == Some(true);
        if class.is_some() && char != '^' {
            class = Some(false);
        }
        rest = match char {
            '\\' => escape(after, class.is_some(), &mut out),
            '[' if class.is_none() => {
                class = Some(true);
                out.push('[');
                after
            }
            '[' => match named_class(rest) {
                Some(end) => {
                    out.push_str(&rest[..end]);
                    &rest[end..]
                }
                None => {
                    out.push_str("\\[");
                    after
                }
            },
            ']' if is_first => {
                out.push_str("\\]");
                after
            }
            ']' if class.is_some() => {
                class = None;
                out.push(']');
                after
            }
            '^' if is_first && !out.ends_with("[^") => {
                out.push('^');
                after
            }
            '&' | '~' | '^' if class.is_some() => {
                class = Some(false);
                out.push('\\');
                out.push(char);
                after
            }
            '-' if class.is_some() && out.ends_with('-') && !out.ends_with("\\-") => {
                out.push_str("\\-");
                after
            }
            '{' if class.is_none() && !is_repetition(after) => {
                out.push_str("\\{");
                after
            }
            other => {
                out.push(other);
                after
            }
        };
    }
    out
}

/// Writes what follows a backslash; gives what is left of the text.
fn escape<'a>(after: &'a str, in_class: bool, out: &mut String) -> &'a str {
    let Some(char) = after.chars().next() else {
        out.push('\\');
        return after;
    };
    let rest = &after[char.len_utf8()..];
    let ascii = match char {
        'd' => Some("0-9"),
        'w' => Some("0-9A-Za-z_"),
        's' => Some("\\t\\n\\f\\r "),
        _ => None,
    };
    let not_ascii = match char {
        'D' => Some("[^0-9]"),
        'W' => Some("[^0-9A-Za-z_]"),
        'S' => Some("[^\\t\\n\\f\\r ]"),
        _ => None,
    };
    match (ascii, not_ascii, char) {
        (Some(ranges), ..) if in_class => out.push_str(ranges),
        (Some(ranges), ..) => out.push_str(&format!("[{ranges}]")),
        (_, Some(class), _) => out.push_str(class),
        (.., 'b') if !in_class => out.push_str("(?-u:\\b)"),
        (.., 'Q') if !in_class => {
            let (quoted, rest) = rest.split_once("\\E").unwrap_or((rest, ""));
            out.push_str(&regex::escape(quoted));
            return rest;
        }
        (.., 'p' | 'P' | 'x') if rest.starts_with('{') => {
            let end = rest.find('}').map_or(rest.len(), |at| at + 1);
            out.push('\\');
            out.push(char);
            out.push_str(&rest[..end]);
            return &rest[end..];
        }
        (.., '0'..='7') => {
            let digits = after.bytes().take(3).take_while(|byte| matches!(byte, b'0'..=b'7'));
            let digits = digits.count();
            // `\1` to `\7` alone would refer to a group, which neither engine does.
            if char == '0' || digits > 1 {
                let code = u32::from_str_radix(&after[..digits], 8).unwrap_or_default();
                out.push_str(&format!("\\x{{{code:x}}}"));
                return &after[digits..];
            }
            out.push('\\');
            out.push(char);
        }
        (_, _, punctuation) if punctuation.is_ascii_punctuation() => {
            out.push_str(&regex::escape(&punctuation.to_string()));
        }
        _ => {
            out.push('\\');
            out.push(char);
        }
    }
    rest
}

/// The end of `[:name:]` at the start of the text.
fn named_class(text: &str) -> Option<usize> {
    let end = text.strip_prefix("[:")?.find(":]")?;
    let name = &text[2..end + 2];
    let is_name = name.trim_start_matches('^').bytes().all(|byte| byte.is_ascii_lowercase());
    is_name.then_some(end + 4)
}

/// Whether what follows a brace is `n}`, `n,}` or `n,m}`.
fn is_repetition(after: &str) -> bool {
    let Some((inside, _)) = after.split_once('}') else { return false };
    let (low, high) = inside.split_once(',').unwrap_or((inside, ""));
    !low.is_empty() && low.chars().chain(high.chars()).all(|char| char.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_match_as_in_go() {
        for (source, matching, others) in [
            ("a.c", &["abc", "a\nc"][..], &["xabc", "ac"][..]),
            (r"\d+", &["19"], &["٣", "1a", ""]),
            (r"\w*", &["a_Z9", ""], &["é", "a-b"]),
            (r"[\w.]+", &["a.b"], &["é", "a-b"]),
            (r"[^\d]", &["a", "٣"], &["1"]),
            (r"\D\S\W", &["aa-", "٣!é"], &["1a-", "a -", "aaa"]),
            (r"\s", &[" ", "\t", "\n"], &["\u{b}", "\u{a0}"]),
            (r".*\bfoo\b.*", &["a foo b", "éfoo", "foo"], &["afoo", "foo_"]),
            ("[^[]+", &["abc]", "&"], &["a[", ""]),
            ("[[a]", &["[", "a"], &["b", "]"]),
            ("[]a]", &["]", "a"], &["b", "["]),
            ("[^]a]", &["b", "["], &["]", "a"]),
            ("[a^]", &["a", "^"], &["b"]),
            ("[a&&b]", &["a", "&", "b"], &["ab", "c"]),
            ("[a~~b]", &["a", "~", "b"], &["ab"]),
            ("[+--]", &["+", ",", "-"], &["."]),
            ("[^^]", &["a"], &["^"]),
            (r"[\-\]\[]", &["-", "]", "["], &["a"]),
            ("[[:alpha:]_]+", &["aZ_"], &["1", "é"]),
            ("foo{bar", &["foo{bar"], &["foobar"]),
            ("a{2}b{1,}c{0,1}", &["aab", "aabbc"], &["ab", "aabcc"]),
            ("x{,2}", &["x{,2}"], &["x", "xx"]),
            (r"\Qa.b[\E+", &["a.b[", "a.b[[["], &["axb["]),
            (r"a\_b\<\/\#", &["a_b</#"], &["ab"]),
            (r"\101\x41\x{41}", &["AAA"], &["A"]),
            ("(?i)straße", &["STRAßE", "straße"], &["strasse"]),
            (r"\pL+\p{Greek}", &["éλ"], &["1λ"]),
            ("a|b", &["a", "b"], &["ab"]),
            ("(?P<n>a)(?:b)", &["ab"], &["a"]),
        ] {
            let regex = compile(source).unwrap_or_else(|error| panic!("{source}: {error}"));
            matching.iter().for_each(|text| assert!(regex.is_match(text), "{source} on {text:?}"));
            others.iter().for_each(|text| assert!(!regex.is_match(text), "{source} on {text:?}"));
        }
        for source in ["(", "[a", "*", r"\1", "(?=a)", r"a\"] {
            assert!(compile(source).is_err(), "{source}");
        }
    }
}
