//! Compares a field with a value. Pure.

use std::cmp::Ordering;

use engagement::event::Micros;
use serde_json::Value;

use super::{Comparison, Literal, Operator};

impl Comparison {
    pub(super) fn holds(&self, record: &Value) -> bool {
        let found = self
            .field
            .iter()
            .try_fold(record, |value, name| value.get(name))
            .filter(|value| !value.is_null());
        match (found, &self.literal) {
            (None, literal) => *literal == Literal::Null && self.operator == Operator::Equal,
            (Some(_), Literal::Null) => self.operator == Operator::Unequal,
            (Some(value), literal) => self.operator.holds(value, literal),
        }
    }
}

impl Operator {
    fn holds(self, found: &Value, literal: &Literal) -> bool {
        if let Value::Array(items) = found {
            return match self {
                Self::Unequal => !items.iter().any(|item| Self::Equal.holds(item, literal)),
                _ => items.iter().any(|item| self.holds(item, literal)),
            };
        }
        if self == Self::Contains {
            return contains(found, literal);
        }
        let order = order(found, literal);
        match self {
            Self::Equal => order == Some(Ordering::Equal),
            Self::Unequal => order != Some(Ordering::Equal),
            Self::Less => order == Some(Ordering::Less),
            Self::AtMost => matches!(order, Some(Ordering::Less | Ordering::Equal)),
            Self::Greater => order == Some(Ordering::Greater),
            Self::AtLeast => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
            Self::Contains => false,
        }
    }
}

fn contains(found: &Value, literal: &Literal) -> bool {
    let wanted = text_of(literal).to_lowercase();
    let found = match found {
        Value::String(text) => text.to_lowercase(),
        other => other.to_string().to_lowercase(),
    };
    found.contains(&wanted)
}

fn text_of(literal: &Literal) -> String {
    match literal {
        Literal::Null => "null".to_owned(),
        Literal::Boolean(truth) => truth.to_string(),
        Literal::Number(text) | Literal::Text(text) => text.clone(),
    }
}

/// `None` for what cannot be compared, such as a number with a word.
fn order(found: &Value, literal: &Literal) -> Option<Ordering> {
    match (found, literal) {
        (Value::Bool(found), _) => Some(found.cmp(&text_of(literal).parse().ok()?)),
        (Value::Number(found), _) => numbers(&found.to_string(), &text_of(literal)),
        (Value::String(found), Literal::Number(wanted)) => numbers(found, wanted),
        (Value::String(found), _) => Some(texts(found, &text_of(literal))),
        _ => None,
    }
}

/// Integers exactly, everything else as doubles.
fn numbers(a: &str, b: &str) -> Option<Ordering> {
    if let (Ok(a), Ok(b)) = (a.parse::<i128>(), b.parse::<i128>()) {
        return Some(a.cmp(&b));
    }
    a.parse::<f64>().ok()?.partial_cmp(&b.parse::<f64>().ok()?)
}

fn texts(a: &str, b: &str) -> Ordering {
    match (a.parse::<Micros>(), b.parse::<Micros>()) {
        (Ok(a), Ok(b)) => a.cmp(&b),
        _ => a.cmp(b),
    }
}
