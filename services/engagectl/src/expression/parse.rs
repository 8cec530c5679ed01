//! Reads the words of a condition: `or` of `and` of comparisons, `not`, brackets. Pure.
//!
//! Invariant: the depth is bounded, so that no text exhausts the stack.

use super::words::{Kind, Word, cut};
use super::{Comparison, Node, Operator};

/// Brackets and `not` in one another.
const DEEPEST: usize = 32;
/// Characters of a condition.
const LONGEST: usize = 4096;

/// Why a text is no condition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "at character {at}: found {found}, expected {expected}; a condition is `field operator value`, joined by `and`, `or` and \
     `not`, for example: engagement_percent > 50 and event_type = play"
)]
pub struct SyntaxError {
    /// The character, from 1.
    pub at: usize,
    /// What is there.
    pub found: String,
    /// What would be right.
    pub expected: &'static str,
}

pub(super) fn expression(text: &str) -> Result<Node, SyntaxError> {
    if text.chars().count() > LONGEST {
        return Err(SyntaxError {
            at: LONGEST + 1,
            found: "more text".into(),
            expected: "a condition of at most 4096 characters",
        });
    }
    let words = cut(text)?;
    let mut reader = Reader {
        words: &words,
        end: text.chars().count() + 1,
    };
    let node = reader.any(0)?;
    match reader.words.first() {
        None => Ok(node),
        Some(_) => Err(reader.error("`and`, `or` or the end")),
    }
}

struct Reader<'a> {
    words: &'a [Word],
    end: usize,
}

impl Reader<'_> {
    fn any(&mut self, depth: usize) -> Result<Node, SyntaxError> {
        let mut parts = vec![self.all(depth)?];
        while self.keyword("or") {
            parts.push(self.all(depth)?);
        }
        Ok(one_or(parts, Node::Any))
    }

    fn all(&mut self, depth: usize) -> Result<Node, SyntaxError> {
        let mut parts = vec![self.term(depth)?];
        while self.keyword("and") {
            parts.push(self.term(depth)?);
        }
        Ok(one_or(parts, Node::All))
    }

    fn term(&mut self, depth: usize) -> Result<Node, SyntaxError> {
        if depth > DEEPEST {
            return Err(self.error("fewer brackets in one another"));
        }
        if self.keyword("not") {
            return Ok(Node::Not(Box::new(self.term(depth + 1)?)));
        }
        if !matches!(self.next_kind(), Some(Kind::Open)) {
            return self.comparison().map(Node::Is);
        }
        self.advance();
        let inner = self.any(depth + 1)?;
        if !matches!(self.next_kind(), Some(Kind::Close)) {
            return Err(self.error("`and`, `or` or `)`"));
        }
        self.advance();
        Ok(inner)
    }

    fn comparison(&mut self) -> Result<Comparison, SyntaxError> {
        let field = self.field()?;
        let operator = self.operator()?;
        let literal = self.next_kind().and_then(Kind::literal);
        let literal = literal.ok_or_else(|| self.error("a value"))?;
        self.advance();
        Ok(Comparison {
            field,
            operator,
            literal,
        })
    }

    fn field(&mut self) -> Result<Vec<String>, SyntaxError> {
        let keyword = |kind: &Kind| {
            ["and", "or", "not"]
                .iter()
                .any(|word| kind.is_keyword(word))
        };
        let name = match self.next_kind() {
            Some(kind @ Kind::Bare(name)) if !keyword(kind) => name.clone(),
            _ => return Err(self.error("a field")),
        };
        let parts: Vec<String> = name.split('.').map(str::to_owned).collect();
        let is_name = |part: &String| {
            part.starts_with(|c: char| c.is_alphabetic() || c == '_')
                && part.chars().all(|c| c.is_alphanumeric() || c == '_')
        };
        if !parts.iter().all(is_name) {
            return Err(self.error("a field, such as event_type or source.offset"));
        }
        self.advance();
        Ok(parts)
    }

    fn operator(&mut self) -> Result<Operator, SyntaxError> {
        let Some(Kind::Operator(operator)) = self.next_kind() else {
            return Err(self.error("an operator: = != < <= > >= ~"));
        };
        let operator = *operator;
        self.advance();
        Ok(operator)
    }

    fn next_kind(&self) -> Option<&Kind> {
        self.words.first().map(|word| &word.kind)
    }

    fn advance(&mut self) {
        self.words = self.words.get(1..).unwrap_or_default();
    }

    fn keyword(&mut self, word: &str) -> bool {
        let found = self.next_kind().is_some_and(|kind| kind.is_keyword(word));
        if found {
            self.advance();
        }
        found
    }

    fn error(&self, expected: &'static str) -> SyntaxError {
        let word = self.words.first();
        SyntaxError {
            at: word.map_or(self.end, |word| word.at),
            found: word.map_or_else(
                || "the end".to_owned(),
                |word| format!("`{}`", word.kind.shown()),
            ),
            expected,
        }
    }
}

/// A single part needs nothing around it.
fn one_or(mut parts: Vec<Node>, many: fn(Vec<Node>) -> Node) -> Node {
    match parts.len() {
        1 => parts.remove(0),
        _ => many(parts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        expression(text).unwrap_err().to_string()
    }

    #[test]
    fn an_error_names_the_place_and_what_would_be_right() {
        for (text, part) in [
            ("", "at character 1: found the end, expected a field"),
            (
                "percent >> 50",
                "at character 10: found `>`, expected a value",
            ),
            (
                "percent 50",
                "at character 9: found `50`, expected an operator",
            ),
            (
                "percent > 50 event_type = play",
                "at character 14: found `event_type`, expected `and`, `or` or the end",
            ),
            (
                "(a = 1",
                "at character 7: found the end, expected `and`, `or` or `)`",
            ),
            (
                "a = 'b",
                "at character 5: found `'`, expected a closing quotation mark",
            ),
            (
                "a = 1 and",
                "at character 10: found the end, expected a field",
            ),
            ("1a = 1", "at character 1: found `1a`, expected a field"),
            ("a..b = 1", "at character 1: found `a..b`, expected a field"),
            (
                "ä = ö & x",
                "at character 7: found `&`, expected a field, an operator",
            ),
            ("a =", "at character 4: found the end, expected a value"),
        ] {
            assert!(refused(text).starts_with(part), "{text}: {}", refused(text));
        }
        assert!(refused("a").ends_with("engagement_percent > 50 and event_type = play"));
    }

    #[test]
    fn depth_and_length_are_bounded() {
        let deep = format!("{}a = 1{}", "(".repeat(5000), ")".repeat(5000));
        assert!(refused(&deep).contains("at most 4096 characters"));
        let deep = format!("{}a = 1{}", "(".repeat(100), ")".repeat(100));
        assert!(refused(&deep).contains("fewer brackets"));
        let nots = format!("{}a = 1", "not ".repeat(100));
        assert!(refused(&nots).contains("fewer brackets"));
    }
}
