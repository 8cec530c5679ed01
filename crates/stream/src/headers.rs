//! Record headers: a list, not a map.
//!
//! Invariant: order and repeated names are kept; lookups answer with the last value, as Kafka's own clients do.

use bytes::Bytes;

/// Name and value pairs in their order; a value may be null.
pub type Headers = Vec<(String, Option<Bytes>)>;

/// W3C trace context.
pub const TRACEPARENT: &str = "traceparent";
/// W3C trace state.
pub const TRACESTATE: &str = "tracestate";
/// `application/x-protobuf` or `application/json`.
pub const CONTENT_TYPE: &str = "content-type";
/// Source position of an enriched record, `lane/epoch/partition/offset`.
pub const ENGAGEMENT_SOURCE: &str = "engagement-source";

/// Value of the last header of that name; `None` when absent or null.
#[must_use]
pub fn last<'a>(headers: &'a [(String, Option<Bytes>)], name: &str) -> Option<&'a [u8]> {
    headers
        .iter()
        .rev()
        .find(|(key, _)| key == name)?
        .1
        .as_deref()
}

/// [`last`] as text; `None` when it is not UTF-8.
#[must_use]
pub fn last_text<'a>(headers: &'a [(String, Option<Bytes>)], name: &str) -> Option<&'a str> {
    std::str::from_utf8(last(headers, name)?).ok()
}

/// Replaces every header of that name by one at the end.
pub fn set(headers: &mut Headers, name: &str, value: impl Into<Bytes>) {
    headers.retain(|(key, _)| key != name);
    headers.push((name.to_owned(), Some(value.into())));
}

/// Bytes of all names and values.
#[must_use]
pub fn size(headers: &[(String, Option<Bytes>)]) -> usize {
    headers
        .iter()
        .map(|(key, value)| key.len() + value.as_ref().map_or(0, Bytes::len))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_of_a_repeated_name_counts() {
        let headers = vec![
            ("a".to_owned(), Some(Bytes::from_static(b"1"))),
            ("b".to_owned(), None),
            ("a".to_owned(), Some(Bytes::from_static(b"2"))),
        ];
        assert_eq!(last(&headers, "a"), Some(&b"2"[..]));
        assert_eq!(last(&headers, "b"), None);
        assert_eq!(last(&headers, "c"), None);
        assert_eq!(size(&headers), 5);
    }

    #[test]
    fn setting_a_header_leaves_one_of_that_name() {
        let mut headers = vec![
            ("a".to_owned(), None),
            ("b".to_owned(), None),
            ("a".to_owned(), None),
        ];
        set(&mut headers, "a", "x");
        assert_eq!(
            headers,
            vec![
                ("b".to_owned(), None),
                ("a".to_owned(), Some(Bytes::from_static(b"x")))
            ]
        );
    }
}
