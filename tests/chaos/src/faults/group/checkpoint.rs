//! What a sink writes beside an offset when everything before it is done. Pure.
//!
//! Invariant: it names the last record that carries a position; one that could not be read carries none, and is not the
//! record right before.

use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};

/// The last record before an offset that carries a position.
#[derive(Debug)]
pub(super) struct SourceBefore {
    /// Its `engagement-source`.
    pub(super) source: String,
    /// No other record stands between it and the offset.
    pub(super) is_right_before: bool,
}

pub(super) fn source_of(record: &BorrowedMessage<'_>) -> Option<String> {
    let headers = record.headers()?;
    let source = headers
        .iter()
        .find(|header| header.key == "engagement-source")?;
    Some(String::from_utf8_lossy(source.value?).into_owned())
}

/// Where there is no such record, that of a group that begins.
pub(super) fn metadata(found: Option<&SourceBefore>) -> String {
    let epoch = found.and_then(|found| found.source.split('/').nth(1));
    let (Some(found), Some(epoch)) = (found, epoch) else {
        return "engage1 epoch=0".to_owned();
    };
    let source = &found.source;
    let position = format!("engage1 epoch={epoch} position={source}");
    match found.is_right_before {
        true => format!("{position} before={source}"),
        false => position,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_could_not_be_read_is_not_the_one_before() {
        let found = |is_right_before| SourceBefore {
            source: "live/2/3/42".into(),
            is_right_before,
        };
        assert_eq!(metadata(None), "engage1 epoch=0");
        assert_eq!(
            metadata(Some(&found(true))),
            "engage1 epoch=2 position=live/2/3/42 before=live/2/3/42"
        );
        assert_eq!(
            metadata(Some(&found(false))),
            "engage1 epoch=2 position=live/2/3/42"
        );
    }
}
