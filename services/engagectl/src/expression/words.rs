//! Cuts the text of a condition into words. Pure.

use super::parse::SyntaxError;
use super::{Literal, Operator};

/// A word, and the character (from 1) that it begins with.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Word {
    pub(super) at: usize,
    pub(super) kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    /// Letters, digits and what numbers and times are made of.
    Bare(String),
    /// Between quotes.
    Quoted(String),
    Operator(Operator),
    Open,
    Close,
}

impl Kind {
    /// As a value to compare with.
    pub(super) fn literal(&self) -> Option<Literal> {
        match self {
            Self::Quoted(text) => Some(Literal::Text(text.clone())),
            Self::Bare(text) => Some(match text.as_str() {
                "null" | "NULL" => Literal::Null,
                "true" => Literal::Boolean(true),
                "false" => Literal::Boolean(false),
                text if is_number(text) => Literal::Number(text.to_owned()),
                text => Literal::Text(text.to_owned()),
            }),
            Self::Operator(_) | Self::Open | Self::Close => None,
        }
    }

    /// As it was written, for an error.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Bare(text) => text.clone(),
            Self::Quoted(text) => format!("'{text}'"),
            Self::Operator(operator) => operator.sign().to_owned(),
            Self::Open => "(".to_owned(),
            Self::Close => ")".to_owned(),
        }
    }

    /// `and`, `or` and `not` in small or capital letters.
    pub(super) fn is_keyword(&self, word: &str) -> bool {
        matches!(self, Self::Bare(text) if text.eq_ignore_ascii_case(word))
    }
}

impl Operator {
    const ALL: [(&'static str, Self); 9] = [
        ("==", Self::Equal),
        ("!=", Self::Unequal),
        ("<>", Self::Unequal),
        ("<=", Self::AtMost),
        (">=", Self::AtLeast),
        ("=", Self::Equal),
        ("<", Self::Less),
        (">", Self::Greater),
        ("~", Self::Contains),
    ];

    fn sign(self) -> &'static str {
        let found = Self::ALL.iter().rev().find(|(_, one)| *one == self);
        found.map_or("", |(sign, _)| sign)
    }
}

/// Like `parse`, but `inf` and `nan` are words.
fn is_number(text: &str) -> bool {
    let digit = text
        .trim_start_matches(['-', '+'])
        .starts_with(|c: char| c.is_ascii_digit() || c == '.');
    digit && text.parse::<f64>().is_ok()
}

fn is_bare(c: char) -> bool {
    c.is_alphanumeric() || "_.:+-/".contains(c)
}

/// All words in their order.
pub(super) fn cut(text: &str) -> Result<Vec<Word>, SyntaxError> {
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let at = text.chars().count() - rest.chars().count() + 1;
        if first.is_whitespace() {
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let (kind, length) = word(rest).ok_or_else(|| SyntaxError {
            at,
            found: format!("`{first}`"),
            expected: match first {
                '\'' | '"' => "a closing quotation mark",
                _ => "a field, an operator (= != < <= > >= ~) or a value; texts with other signs stand in quotation marks",
            },
        })?;
        words.push(Word { at, kind });
        rest = &rest[length..];
    }
    Ok(words)
}

/// The word that a text begins with, and its bytes.
fn word(text: &str) -> Option<(Kind, usize)> {
    let operator = Operator::ALL
        .iter()
        .find(|(sign, _)| text.starts_with(sign));
    if let Some((sign, operator)) = operator {
        return Some((Kind::Operator(*operator), sign.len()));
    }
    match text.chars().next()? {
        '(' => Some((Kind::Open, 1)),
        ')' => Some((Kind::Close, 1)),
        quote @ ('\'' | '"') => {
            let inner = text[1..].split(quote).next()?;
            let closed = text[1..].len() > inner.len();
            closed.then(|| (Kind::Quoted(inner.to_owned()), inner.len() + 2))
        }
        _ => {
            let end = text.find(|c| !is_bare(c)).unwrap_or(text.len());
            (end > 0).then(|| (Kind::Bare(text[..end].to_owned()), end))
        }
    }
}
