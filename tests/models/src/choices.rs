//! What can happen next in a world.
//!
//! Invariant: whatever a process, a broker or an operator could do at this point is listed, in a fixed order.

use crate::actions::{Action, SinkAction};
use crate::enricher::Enricher;
use crate::sink::{Member, Sink};
use crate::world::{Remade, World};

impl<S: Sink> World<S> {
    /// Everything that can happen now; faults only while there are any left.
    pub(crate) fn choices(&self) -> Vec<Action> {
        let mut out = Vec::new();
        if self.captured < self.truth.len() {
            out.push(Action::Captured);
        }
        for index in 0..2 {
            self.enricher_choices(index, &mut out);
        }
        for wire in 0..self.wires.len() {
            out.extend([Action::WireAppends(wire), Action::WireVanishes(wire)]);
        }
        self.sink_choices(&mut out);
        if self.can_adopt() {
            out.push(Action::Adopts);
        }
        if self.faults > 0 {
            self.log_faults(&mut out);
        }
        out.retain(|action| {
            action
                .fault()
                .is_none_or(|fault| self.faults > 0 && self.allowed.contains(&fault))
        });
        out
    }

    fn enricher_choices(&self, index: usize, out: &mut Vec<Action>) {
        let is_owner = self.enrichers.owner == index;
        match &self.enrichers.members[index] {
            Enricher::Idle if is_owner => out.push(Action::Looks(index)),
            Enricher::Looked { .. } if is_owner => out.push(Action::Opens(index)),
            Enricher::Looked { .. } => out.push(Action::Notices(index)),
            Enricher::Running(lane) => {
                let around = self.around();
                if lane.can_judge(&around) || lane.is_overtaken(&self.cdc) {
                    out.push(Action::Judges(index));
                }
                if lane.can_append() {
                    out.push(Action::Appended(index));
                }
                if lane.can_lose_first() {
                    out.push(Action::FirstLost(index));
                }
                if lane.can_acknowledge() {
                    out.push(Action::Acknowledged(index));
                }
                if lane.has_late_letters() {
                    out.push(Action::LateLetter(index));
                }
                if is_owner && lane.commit().is_some() {
                    out.push(Action::Commits(index));
                }
                if !is_owner {
                    out.push(Action::Notices(index));
                }
                out.push(Action::Crashes(index));
            }
            Enricher::Idle | Enricher::Stopped(_) => {}
        }
    }

    fn sink_choices(&self, out: &mut Vec<Action>) {
        let (up, group) = (self.upstream(), self.sink.view());
        let mut found = Vec::new();
        for (index, member) in group.members.iter().enumerate() {
            let is_owner = group.owner == index;
            match member {
                Member::Idle if is_owner => found.push(SinkAction::Opens(index)),
                Member::Running(lane) => {
                    self.sink.choices(index, &up, &mut found);
                    let awake = !S::is_frozen(lane);
                    if S::next(lane) < self.out.marks().low && awake {
                        found.push(SinkAction::Takes(index));
                    }
                    if is_owner && awake && S::commit(&mut (**lane).clone(), false).is_some() {
                        found.push(SinkAction::Commits(index));
                    }
                    if S::has_late_letters(lane) && awake {
                        found.push(SinkAction::LateLetter(index));
                    }
                    if !is_owner && awake {
                        found.push(SinkAction::Notices(index));
                    }
                    found.push(SinkAction::Crashes(index));
                }
                _ => {}
            }
        }
        self.sink.events(&mut found);
        if self.faults > 0 {
            self.sink_faults(&mut found);
        }
        out.extend(found.into_iter().map(Action::Sink));
    }

    fn sink_faults(&self, found: &mut Vec<SinkAction>) {
        let group = self.sink.view();
        if matches!(group.members[1 - group.owner], Member::Idle) {
            found.push(SinkAction::Moves);
        }
        if !group.history.is_empty() {
            found.push(SinkAction::CommitRewound);
        }
        // a commit that is deleted after retention has overtaken it takes the proof of that with it
        let low = self.out.marks().low;
        let overtaken = S::RESUMES_AT_COMMIT && self.sink.durable() < low;
        if group.committed.is_some() && self.sink.remembers() && !overtaken {
            found.extend([SinkAction::CommitDeleted, SinkAction::CommitReset]);
        }
    }

    fn log_faults(&self, out: &mut Vec<Action>) {
        out.extend((1..=self.captured.min(3)).map(Action::Resent));
        if matches!(
            self.enrichers.members[1 - self.enrichers.owner],
            Enricher::Idle
        ) {
            out.push(Action::Moves);
        }
        self.retention(out);
        // a topic of which nothing was used yet cannot be told from a new one
        let remade = self.cut || self.remade != Remade::No;
        if !remade && self.out.readable().next().is_some() {
            out.push(Action::ChangesRecreated);
        }
        if !remade && self.sink.durable() > 0 {
            out.push(Action::EnrichedRecreated);
        }
        // A reader takes its first record as it comes. A record that cannot be read does not say what came before it.
        let (has_two, readable) = (self.out.readable().nth(1).is_some(), !self.truth.refuses());
        if has_two && readable && !self.sink.done().is_empty() {
            out.push(Action::EnrichedTruncated);
        }
        if !self.enrichers.history.is_empty() {
            out.push(Action::CommitRewound);
        }
        if self.enrichers.committed.is_some() {
            out.extend([Action::CommitDeleted, Action::CommitReset]);
        }
    }

    /// What cannot be told apart is left out: a pipeline that has not begun begins with what there is; a topic made
    /// again and then cut to exactly the resume point looks like the old one; a change that is sent again after both
    /// topics have lost it is new.
    fn retention(&self, out: &mut Vec<Action>) {
        let has_more = [
            self.cdc.readable().next().is_some(),
            self.out.readable().next().is_some(),
        ];
        if self.cut || self.remade != Remade::No || has_more.contains(&false) {
            return;
        }
        if self.out.marks().low == 0 {
            out.push(Action::ChangeExpired);
        }
        if self.cdc.marks().low == 0 && self.sink.view().committed.is_some() {
            out.push(Action::EnrichedExpired);
        }
    }
}
