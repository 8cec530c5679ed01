//! Whether a run of former processes can go on here. Pure.
//!
//! Invariant: what a run has noted is believed only of the database and the topic that it was noted of.

use super::ledger::{Database, Run};

const ANEW: &str = "start a new run over the same range: what is there is not written twice";

/// Why a run cannot go on here, and what to do. `ends`: where each partition of the topic ends.
pub(super) fn misfit(
    run: &Run,
    database: &Database,
    topic: &str,
    ends: &[i64],
) -> Option<(String, &'static str)> {
    let (spec, partitions) = (&run.spec, ends.len());
    if let Some(other) = other_database(&spec.database, database) {
        return Some(other);
    }
    if spec.topic != topic {
        let what = format!("it writes to {}, and {topic} is configured", spec.topic);
        return Some((what, "correct KAFKA_BACKFILL_TOPIC, or start a new run"));
    }
    if usize::try_from(spec.partitions).ok() != Some(partitions) {
        let what = format!(
            "topic {topic} has {partitions} partitions, it was planned for {}",
            spec.partitions
        );
        return Some((what, ANEW));
    }
    run.is_beyond(ends).map(|partition| {
        let what = format!(
            "partition {partition} of topic {topic} ends at {}, before what the run has written: it was made anew since",
            ends[partition]
        );
        (what, ANEW)
    })
}

/// Why what was read of one database cannot be gone on with in another.
fn other_database(planned: &Database, database: &Database) -> Option<(String, &'static str)> {
    if (&planned.system, &planned.name) != (&database.system, &database.name) {
        let what = format!(
            "it belongs to database {} of system {}, this is {} of {}",
            planned.name, planned.system, database.name, database.system
        );
        return Some((what, "correct DATABASE_URL, or start a new run"));
    }
    (planned.timeline != database.timeline).then(|| {
        let what = format!(
            "the database was failed over since it was planned (timeline {} then, {} now)",
            planned.timeline, database.timeline
        );
        (what, ANEW)
    })
}

#[cfg(test)]
mod tests {
    use engagement::event::Micros;
    use stream::backfill::Addressee;

    use super::super::ledger::Spec;
    use super::super::range::Range;
    use super::*;

    fn database(name: &str, timeline: i64) -> Database {
        Database {
            system: "7".into(),
            timeline,
            name: name.into(),
        }
    }

    #[test]
    fn a_run_goes_on_only_in_its_own_database_topic_and_partitions() {
        let range = Range {
            start: Micros(0),
            end: Micros(10),
        };
        let spec = Spec {
            run: 1,
            database: database("engage", 1),
            topic: "t".into(),
            partitions: 16,
            range,
            content_id: None,
            sinks: vec![Addressee::Clickhouse],
            revision_lsn: 0,
            horizon: 0,
            ranges: range.split(1),
            rows: 0,
        };
        let mut run = Run::new(spec);
        run.begin(0, &[7; 16]);
        let judge = |database: &Database, topic, partitions| {
            misfit(&run, database, topic, &vec![7; partitions]).map(|(what, _)| what)
        };
        let own = database("engage", 1);
        assert_eq!(judge(&own, "t", 16), None);
        let mut anew = [7; 16];
        anew[3] = 6;
        let (what, _) = misfit(&run, &own, "t", &anew).unwrap();
        assert!(what.contains("partition 3 of topic t ends at 6"), "{what}");
        assert!(
            judge(&database("other", 1), "t", 16)
                .unwrap()
                .contains("belongs to database")
        );
        assert!(
            judge(&database("engage", 2), "t", 16)
                .unwrap()
                .contains("failed over")
        );
        assert!(judge(&own, "u", 16).unwrap().contains("is configured"));
        assert!(judge(&own, "t", 8).unwrap().contains("planned for 16"));
    }
}
