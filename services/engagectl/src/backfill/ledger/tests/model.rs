//! A backfill's process and its Kafka, as far as the ledger matters: it can die between any two steps.

use std::collections::BTreeMap;

use engagement::event::Micros;

use super::{json, spec};
use crate::backfill::ledger::*;

/// Per partition: range and id.
pub(super) type Lane = [Vec<(u32, String)>; 4];

/// Kafka: what was acknowledged survives the process, what is in flight may not.
#[derive(Default)]
pub(super) struct Log {
    pub(super) runs: Vec<(String, Vec<u8>)>,
    pub(super) lane: Lane,
    in_flight: Lane,
}

impl Log {
    /// Where the next record of each partition goes, as the one who sends counts.
    fn ends(&self) -> Vec<i64> {
        let partitions = self.lane.iter().zip(&self.in_flight);
        let end = |(lane, more): (&Vec<_>, &Vec<_>)| i64::try_from(lane.len() + more.len());
        partitions
            .map(|partition| end(partition).unwrap())
            .collect()
    }

    fn send(&mut self, row: i64, range: u32) {
        self.in_flight[usize::try_from(row % 4).unwrap()].push((range, row.to_string()));
    }

    fn drain(&mut self) {
        for (lane, more) in self.lane.iter_mut().zip(&mut self.in_flight) {
            lane.append(more);
        }
    }

    /// Of what was in flight when a process died, some has arrived.
    fn lose_some(&mut self) {
        self.lane[0].append(&mut self.in_flight[0]);
        self.lane[2].append(&mut self.in_flight[2]);
        self.in_flight = Lane::default();
    }

    fn note(&mut self, range: u32, note: Note) {
        self.runs
            .push((note_key(7, range), json(&Entry::Note(note))));
    }
}

/// Dies after so many steps.
pub(super) struct Life(pub(super) usize);

impl Life {
    fn step(&mut self) -> Option<()> {
        self.0 = self.0.checked_sub(1)?;
        Some(())
    }
}

const PAGE: usize = 3;

/// The pages that are left, those of all ranges by turns, as several readers bring them.
fn pages(run: &Run, rows: &[Vec<i64>]) -> Vec<(Page, Vec<i64>)> {
    let mut all = Vec::new();
    for work in run.work() {
        let is_left = |id: &&i64| {
            work.after
                .as_ref()
                .is_none_or(|after| Micros(**id) > after.at)
        };
        let left: Vec<i64> = rows[work.range as usize]
            .iter()
            .filter(is_left)
            .copied()
            .collect();
        let count = left.len().div_ceil(PAGE).max(1);
        for number in 0..count {
            let of_page: Vec<i64> = left
                .iter()
                .skip(number * PAGE)
                .take(PAGE)
                .copied()
                .collect();
            let last = of_page.last().map(|row| Cursor {
                at: Micros(*row),
                id: row.to_string(),
            });
            let page = Page {
                range: work.range,
                rows: u64::try_from(of_page.len()).unwrap(),
                last,
                is_last: number + 1 == count,
            };
            all.push((number, page, of_page));
        }
    }
    // stable: within a turn in the order of the ranges
    all.sort_by_key(|(number, ..)| *number);
    all.into_iter()
        .map(|(_, page, of_page)| (page, of_page))
        .collect()
}

/// Everything in flight arrives, then its pages are noted; answers where each partition ends.
fn note_pages(
    log: &mut Log,
    unnoted: &mut BTreeMap<u32, Note>,
    life: &mut Life,
) -> Option<Vec<i64>> {
    log.drain();
    for (range, note) in std::mem::take(unnoted) {
        life.step()?;
        log.note(range, note);
    }
    Some(log.ends())
}

/// One process, from reading the notes to its end or its death (`None`); every so many pages it notes them.
pub(super) fn process(
    log: &mut Log,
    rows: &[Vec<i64>],
    life: &mut Life,
    noted: usize,
) -> Option<()> {
    let mut runs = Runs::default();
    for (key, payload) in &log.runs {
        runs.apply(key, Some(payload)).unwrap();
    }
    let mut run = match runs.get(7) {
        Some(run) => run.clone(),
        None => {
            life.step()?;
            let spec = spec(u32::try_from(rows.len()).unwrap());
            log.runs
                .push((plan_key(7), json(&Entry::Plan(spec.clone()))));
            Run::new(spec)
        }
    };
    log.lose_some();
    assert_eq!(run.is_beyond(&log.ends()), None, "{run:?}");
    let mut found = Found::default();
    for (partition, records) in (0..).zip(&log.lane) {
        let from = run
            .search_from(partition)
            .map_or(records.len(), |from| usize::try_from(from).unwrap());
        for (range, id) in records.iter().skip(from) {
            found.note(*range, id.clone());
        }
    }
    let (mut settled, mut unnoted) = (log.ends(), BTreeMap::new());
    for (number, (page, of_page)) in (1..).zip(pages(&run, rows)) {
        if !run.has_begun(page.range) {
            let note = run.begin(page.range, &settled);
            life.step()?;
            log.note(page.range, note);
        }
        for row in of_page {
            if found.is_new(page.range, &row.to_string()) {
                life.step()?;
                log.send(row, page.range);
            }
        }
        let ends = (!found.has_more_of(page.range)).then(|| log.ends());
        unnoted.insert(page.range, run.advance(&page, ends));
        if number % noted == 0 {
            settled = note_pages(log, &mut unnoted, life)?;
        }
    }
    note_pages(log, &mut unnoted, life)?;
    Some(())
}
