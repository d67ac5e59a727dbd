//! Patterns of what is left out, with restic's meaning.
//!
//! A pattern without a leading `/` matches anywhere; one that matches a directory matches all below it; `**` stands for
//! any number of components; a pattern with `!` takes back what those before it left out. Matching is on bytes that are
//! decoded as UTF-8 for `?` and `[…]`; a byte that is no text counts as one character.

use std::borrow::Cow;

/// Whether upper and lower case differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// They do.
    Exact,
    /// They do not.
    Folded,
}

/// One pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    parts: Vec<Part>,
    /// It begins at the root.
    anchored: bool,
    /// It takes back.
    negated: bool,
    case: Case,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// `**`
    AnyDepth,
    Literal(Vec<u8>),
    Glob(Vec<u8>),
}

/// A text that is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{:?} is no pattern", String::from_utf8_lossy(.0))]
pub struct BadPattern(Vec<u8>);

impl Pattern {
    /// Reads a pattern; an empty one, an unclosed `[` and a `\` at the end are none.
    pub fn parse(text: &[u8], case: Case) -> Result<Self, BadPattern> {
        let (negated, rest) = match text.strip_prefix(b"!") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let folded = fold(rest, case);
        let anchored = folded.starts_with(b"/");
        let components = clean(&folded);
        let parts: Option<Vec<Part>> = components.iter().map(|component| Part::parse(component)).collect();
        match parts {
            Some(parts) if anchored || !parts.is_empty() => Ok(Self { parts, anchored, negated, case }),
            _ => Err(BadPattern(text.into())),
        }
    }

    /// Whether the path, or a directory above it, matches. With `ends_there` the match must end at the last component:
    /// enough where all directories above were asked before.
    fn matches(&self, components: &[&[u8]], ends_there: bool) -> bool {
        let starts = if self.anchored { 0..=0 } else { 0..=components.len() };
        starts.into_iter().any(|start| match_parts(&self.parts, &components[start..], ends_there))
    }

    /// Whether the path, or something above or below it, may match.
    fn reaches(&self, components: &[&[u8]]) -> bool {
        let before_any_depth = self.parts.iter().take_while(|part| **part != Part::AnyDepth);
        !self.anchored || before_any_depth.zip(components).all(|(part, component)| part.matches(component))
    }
}

/// Whether the parts match a prefix of the components, or with `whole` all of them.
fn match_parts(parts: &[Part], components: &[&[u8]], whole: bool) -> bool {
    match (parts.split_first(), components.split_first()) {
        (None, rest) => rest.is_none() || !whole,
        (Some((Part::AnyDepth, parts)), _) => {
            (0..=components.len()).any(|skipped| match_parts(parts, &components[skipped..], whole))
        }
        (Some(_), None) => false,
        (Some((part, parts)), Some((component, components))) => {
            part.matches(component) && match_parts(parts, components, whole)
        }
    }
}

impl Part {
    fn parse(text: &[u8]) -> Option<Self> {
        if text == b"**" {
            return Some(Self::AnyDepth);
        }
        if !text.iter().any(|byte| b"*?[\\".contains(byte)) {
            return Some(Self::Literal(text.into()));
        }
        is_glob(text).then(|| Self::Glob(text.into()))
    }

    fn matches(&self, name: &[u8]) -> bool {
        match self {
            Self::AnyDepth => true,
            Self::Literal(literal) => literal == name,
            Self::Glob(glob) => glob_matches(glob, name),
        }
    }
}

/// Patterns in the order in which they were given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Patterns {
    list: Vec<Pattern>,
    negates: bool,
    folds: bool,
}

/// What was asked before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// Nothing: directories above may match, too.
    Nothing,
    /// All directories above, and none matched.
    Above,
}

impl Patterns {
    /// Adds one behind the others.
    pub fn push(&mut self, pattern: Pattern) {
        self.negates |= pattern.negated;
        self.folds |= pattern.case == Case::Folded;
        self.list.push(pattern);
    }

    /// Whether an absolute path is left out. Answers of patterns that ignore case and of those that do not count apart:
    /// the one never takes back what the other left out.
    pub fn exclude(&self, path: &[u8], asked: Asked) -> bool {
        self.excludes_with(path, asked, Case::Exact) || self.folds && self.excludes_with(path, asked, Case::Folded)
    }

    /// Whether an absolute path, or something above or below it, may match: where not, nothing is to be looked for.
    pub fn reaches(&self, path: &[u8]) -> bool {
        self.list.iter().filter(|pattern| !pattern.negated).any(|pattern| {
            let path = fold(path, pattern.case);
            pattern.reaches(&components(&path))
        })
    }

    fn excludes_with(&self, path: &[u8], asked: Asked, case: Case) -> bool {
        if self.list.is_empty() {
            return false;
        }
        let path = fold(path, case);
        let components = components(&path);
        // what was taken back above may match again here through a directory
        let ends_there = asked == Asked::Above && !self.negates;
        let mut excluded = false;
        for pattern in self.list.iter().filter(|pattern| pattern.case == case) {
            if pattern.negated == excluded && pattern.matches(&components, ends_there) {
                excluded = !pattern.negated;
                if excluded && !self.negates {
                    return true;
                }
            }
        }
        excluded
    }
}

fn components(path: &[u8]) -> Vec<&[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).collect()
}

/// Splits a path into components: no empty ones, no `.`, and `..` only in front of a relative path.
pub fn clean(path: &[u8]) -> Vec<Vec<u8>> {
    let absolute = path.starts_with(b"/");
    let mut cleaned: Vec<Vec<u8>> = Vec::new();
    for component in path.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." if cleaned.last().is_some_and(|last| last != b"..") => drop(cleaned.pop()),
            b".." if absolute => {}
            _ => cleaned.push(component.into()),
        }
    }
    cleaned
}

fn fold(text: &[u8], case: Case) -> Cow<'_, [u8]> {
    if case == Case::Exact {
        return Cow::Borrowed(text);
    }
    let mut folded = Vec::with_capacity(text.len());
    for chunk in text.utf8_chunks() {
        folded.extend_from_slice(chunk.valid().to_lowercase().as_bytes());
        folded.extend_from_slice(chunk.invalid());
    }
    Cow::Owned(folded)
}

/// Whether every class is closed and every `\` is followed by something.
pub fn is_glob(glob: &[u8]) -> bool {
    let mut rest = glob;
    while let Some((first, after)) = rest.split_first() {
        rest = match first {
            b'\\' if after.is_empty() => return false,
            b'\\' => &after[1..],
            b'[' => match class_matches(after, 'x') {
                Some((_, after)) => after,
                None => return false,
            },
            _ => after,
        };
    }
    true
}

/// `*`, `?`, `[a-z]`, `[^a-z]`, `\x` on one component; back-tracks to the last `*` only.
pub fn glob_matches(glob: &[u8], name: &[u8]) -> bool {
    let (mut glob, mut name) = (glob, name);
    let mut star: Option<(&[u8], &[u8])> = None;
    loop {
        if let Some(after) = glob.strip_prefix(b"*") {
            (glob, star) = (after, Some((after, name)));
            continue;
        }
        if glob.is_empty() && name.is_empty() {
            return true;
        }
        if let Some((after_glob, after_name)) = match_one(glob, name) {
            (glob, name) = (after_glob, after_name);
            continue;
        }
        match star {
            Some((after_star, from)) if !from.is_empty() => {
                let (_, later) = next_character(from);
                (glob, name, star) = (after_star, later, Some((after_star, later)));
            }
            _ => return false,
        }
    }
}

/// Matches one character; answers what is left of both.
fn match_one<'a>(glob: &'a [u8], name: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    let (first, after_glob) = glob.split_first()?;
    if name.is_empty() {
        return None;
    }
    let (character, after_name) = next_character(name);
    let literal = |expected: &[u8], after_glob| {
        let after_name = name.strip_prefix(expected)?;
        Some((after_glob, after_name))
    };
    match first {
        b'?' => Some((after_glob, after_name)),
        b'[' => match class_matches(after_glob, character)? {
            (true, after_glob) => Some((after_glob, after_name)),
            (false, _) => None,
        },
        b'\\' => literal(after_glob.get(..1)?, &after_glob[1..]),
        _ => literal(&glob[..1], after_glob),
    }
}

/// Whether a character is in the class that begins here, and what follows its `]`; `None` if it is not closed.
fn class_matches(class: &[u8], character: char) -> Option<(bool, &[u8])> {
    let (negated, mut rest) = match class.strip_prefix(b"^") {
        Some(rest) => (true, rest),
        None => (false, class),
    };
    let (mut found, mut count) = (false, 0);
    loop {
        if count > 0
            && let Some(after) = rest.strip_prefix(b"]")
        {
            return Some((found != negated, after));
        }
        let (low, after) = class_character(rest)?;
        let (high, after) = match after.strip_prefix(b"-") {
            Some(after) => class_character(after)?,
            None => (low, after),
        };
        found |= (low..=high).contains(&character);
        (rest, count) = (after, count + 1);
    }
}

fn class_character(class: &[u8]) -> Option<(char, &[u8])> {
    match class.first()? {
        b'-' | b']' => None,
        b'\\' if class.len() == 1 => None,
        b'\\' => Some(next_character(&class[1..])),
        _ => Some(next_character(class)),
    }
}

/// The first character of a text that is not empty; a byte that is no text is U+FFFD.
fn next_character(text: &[u8]) -> (char, &[u8]) {
    let window = &text[..text.len().min(4)];
    let first = window.utf8_chunks().next().and_then(|chunk| chunk.valid().chars().next());
    match first {
        Some(character) => (character, &text[character.len_utf8()..]),
        None => (char::REPLACEMENT_CHARACTER, &text[1..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(patterns: &[&str], path: &str, expected: bool) {
        check_case(patterns, Case::Exact, path.as_bytes(), expected);
    }

    #[track_caller]
    fn check_case(texts: &[&str], case: Case, path: &[u8], expected: bool) {
        let mut patterns = Patterns::default();
        for text in texts {
            patterns.push(Pattern::parse(text.as_bytes(), case).unwrap());
        }
        assert_eq!(patterns.exclude(path, Asked::Nothing), expected, "{texts:?}");
        // the walk asks from the top down and stops at the first directory that is left out
        let ends = (1..=path.len()).filter(|end| *end == path.len() || path[*end] == b'/');
        let walked = ends.map(|end| &path[..end]).any(|path| patterns.exclude(path, Asked::Above));
        let refused = walked != expected && !patterns.negates;
        assert!(!refused, "walk: {texts:?}");
    }

    #[test]
    fn names_match_anywhere_and_all_below() {
        check(&["*.tmp"], "/a/b.tmp", true);
        check(&["*.tmp"], "/a.tmp/b", true);
        check(&["*.tmp"], "/a/b.tmpx", false);
        check(&["foo"], "/foo/test", true);
        check(&["foo/bar"], "/x/foo/bar/y", true);
        check(&["foo/bar"], "/x/foo/z/bar", false);
        check(&["foo/"], "/x/foo", true);
    }

    #[test]
    fn a_leading_slash_is_the_root() {
        check(&["/home/*/cache"], "/home/u/cache/x", true);
        check(&["/home/*/cache"], "/srv/home/u/cache", false);
        check(&["/x/../home"], "/home/u", true);
    }

    #[test]
    fn two_stars_are_any_depth() {
        check(&["foo/**/bar"], "/foo/bar", true);
        check(&["foo/**/bar"], "/foo/a/b/bar/c", true);
        check(&["**/build"], "/a/b/build", true);
        check(&["/home/**"], "/home/a/b", true);
        check(&["/a/**/*.o"], "/b/x.o", false);
        check(&["a**b"], "/axb", true);
    }

    #[test]
    fn a_later_negation_takes_back() {
        check(&["*.go", "!important.go"], "/a/important.go", false);
        check(&["*.go", "!important.go"], "/a/other.go", true);
        check(&["!important.go", "*.go"], "/a/important.go", true);
        check(&["/home/*", "!/home/u"], "/home/u/file", false);
        check(&["/home/*", "!/home/u"], "/home/v/file", true);
    }

    #[test]
    fn only_what_may_match_is_reached() {
        let reaches = |pattern: &str, case: Case, path: &str| {
            let mut patterns = Patterns::default();
            patterns.push(Pattern::parse(pattern.as_bytes(), case).unwrap());
            patterns.reaches(path.as_bytes())
        };
        for (pattern, path, expected) in [
            ("/home/*/cache", "/home/u", true),
            ("/home/*/cache", "/home/u/cache/below", true),
            ("/home/*/cache", "/home/u/mail", false),
            ("/home/*/cache", "/srv", false),
            ("/home/**/cache", "/home/u/mail", true),
            ("/home/**/cache", "/srv", false),
            ("cache", "/srv", true),
            ("!/home", "/home", false),
        ] {
            assert_eq!(reaches(pattern, Case::Exact, path), expected, "{pattern} {path}");
        }
        assert!(reaches("/HOME/u", Case::Folded, "/home"));
    }

    #[test]
    fn classes_and_escapes_are_those_of_a_shell() {
        check(&["[a-c]?"], "/bx", true);
        check(&["[^a-c]x"], "/bx", false);
        check(&["[^a-c]x"], "/éx", true);
        check(&["\\*x"], "/*x", true);
        check(&["\\*x"], "/ax", false);
        check(&["a*b*c"], "/a-b-bc", true);
        check(&["?"], "/é", true);
        check(&["[\\]]"], "/]", true);
    }

    #[test]
    fn case_is_ignored_where_that_was_asked() {
        check_case(&["*.JPG"], Case::Folded, "/Ä/x.jpg".as_bytes(), true);
        check_case(&["ÄPFEL"], Case::Folded, "/äpfel".as_bytes(), true);
        check_case(&["*.JPG"], Case::Exact, b"/x.jpg", false);
    }

    #[test]
    fn bytes_that_are_no_text_are_characters() {
        check_case(&["a?b"], Case::Exact, b"/a\xffb", true);
        check_case(&["*"], Case::Folded, b"/\xff\xfe", true);
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for bad in ["", "!", "[a", "a\\", "[]", "[a-]", "x/[", "."] {
            assert!(Pattern::parse(bad.as_bytes(), Case::Exact).is_err(), "{bad}");
        }
    }
}

#[cfg(test)]
mod model {
    //! The matcher beside a naive one that expands `**` and tries every offset, as restic does.

    use proptest::prelude::*;

    use super::*;

    /// Every way to read a glob: one character at a time, `*` as any number of them.
    fn naive_glob(glob: &[char], name: &[char]) -> bool {
        match glob.split_first() {
            None => name.is_empty(),
            Some(('*', rest)) => (0..=name.len()).any(|skipped| naive_glob(rest, &name[skipped..])),
            Some(('?', rest)) => !name.is_empty() && naive_glob(rest, &name[1..]),
            Some((literal, rest)) => name.first() == Some(literal) && naive_glob(rest, &name[1..]),
        }
    }

    fn naive_match(parts: &[&str], names: &[&str], is_anchored: bool) -> bool {
        if let Some(stars) = parts.iter().position(|part| *part == "**") {
            return (0..=names.len()).any(|count| {
                let expanded = [&parts[..stars], &vec!["*"; count], &parts[stars + 1..]].concat();
                naive_match(&expanded, names, is_anchored)
            });
        }
        let glob =
            |part: &str, name: &str| naive_glob(&part.chars().collect::<Vec<_>>(), &name.chars().collect::<Vec<_>>());
        let last = if is_anchored { 0 } else { names.len() };
        (0..=last).any(|offset| {
            names.len() >= offset + parts.len()
                && parts.iter().zip(&names[offset..]).all(|(part, name)| glob(part, name))
        })
    }

    fn naive_exclude(patterns: &[String], path: &str) -> bool {
        let names: Vec<_> = path.split('/').filter(|name| !name.is_empty()).collect();
        patterns.iter().fold(false, |excluded, text| {
            let (negated, text) = text.strip_prefix('!').map_or((false, text.as_str()), |text| (true, text));
            let parts: Vec<_> = text.split('/').filter(|part| !part.is_empty()).collect();
            let matches = naive_match(&parts, &names, text.starts_with('/'));
            if negated { excluded && !matches } else { excluded || matches }
        })
    }

    /// What the walk leaves out: it asks from the top down and does not go below what is left out.
    fn walk_excludes(patterns: &Patterns, path: &str) -> bool {
        let ends = (1..=path.len()).filter(|end| *end == path.len() || path.as_bytes()[*end] == b'/');
        ends.into_iter().any(|end| patterns.exclude(&path.as_bytes()[..end], Asked::Above))
    }

    fn name() -> impl Strategy<Value = String> {
        "[abé]{1,3}"
    }

    fn pattern() -> impl Strategy<Value = String> {
        let part = prop_oneof![3 => "[abé*?]{1,3}", 1 => Just("**".to_owned())];
        ("!?", "/?", prop::collection::vec(part, 1..4)).prop_map(|(not, root, parts)| not + &root + &parts.join("/"))
    }

    proptest! {
        #[test]
        fn the_matcher_agrees_with_the_naive_one(
            texts in prop::collection::vec(pattern(), 1..4),
            names in prop::collection::vec(name(), 1..5),
        ) {
            let mut patterns = Patterns::default();
            for text in &texts {
                patterns.push(Pattern::parse(text.as_bytes(), Case::Exact).unwrap());
            }
            let path = format!("/{}", names.join("/"));
            prop_assert_eq!(patterns.exclude(path.as_bytes(), Asked::Nothing), naive_exclude(&texts, &path));
            let above = (1..=names.len()).any(|count| naive_exclude(&texts, &format!("/{}", names[..count].join("/"))));
            prop_assert_eq!(walk_excludes(&patterns, &path), above);
            for count in 1..=names.len() {
                let reached = patterns.reaches(format!("/{}", names[..count].join("/")).as_bytes());
                prop_assert!(reached || !patterns.exclude(path.as_bytes(), Asked::Nothing));
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(text: Vec<u8>, path: Vec<u8>) {
            for case in [Case::Exact, Case::Folded] {
                let mut patterns = Patterns::default();
                if let Ok(pattern) = Pattern::parse(&text, case) {
                    patterns.push(pattern);
                }
                patterns.exclude(&path, Asked::Nothing);
                patterns.exclude(&path, Asked::Above);
                patterns.reaches(&path);
            }
        }
    }
}
