//! One thing happens in a world.
//!
//! Invariant: an action changes what it names and nothing else; a stop without a cause is a violation.

use crate::actions::{Action, SinkAction};
use crate::enricher::{Around, Enricher};
use crate::log::Log;
use crate::sink::{Member, Outcome, Sink, Upstream};
use crate::world::{Remade, Violation, World};

impl<S: Sink> World<S> {
    /// Lets one thing happen.
    pub(crate) fn happen(&mut self, action: Action) -> Result<(), Violation> {
        if action.fault().is_some() {
            self.faults = self.faults.saturating_sub(1);
        }
        match action {
            Action::Captured => {
                self.cdc.append(self.captured);
                self.captured += 1;
                self.sent = self.sent.max(self.captured);
            }
            Action::Resent(back) => self.captured -= back,
            Action::Adopts => self.adopt(),
            Action::ChangeExpired | Action::EnrichedExpired => self.expire(action),
            Action::ChangesRecreated | Action::EnrichedRecreated => self.recreate(action),
            Action::EnrichedTruncated => self.truncate(),
            Action::CommitRewound | Action::CommitDeleted | Action::CommitReset => {
                self.change_commit(action);
            }
            Action::Moves => self.enrichers.owner = 1 - self.enrichers.owner,
            Action::WireAppends(wire) => {
                if let Some(record) = self.wires[wire].pop_front() {
                    self.out.append(record);
                }
                self.wires.retain(|wire| !wire.is_empty());
            }
            Action::WireVanishes(wire) => drop(self.wires.remove(wire)),
            Action::Sink(action) => return self.sink_happen(action),
            _ => return self.enricher_happen(action),
        }
        Ok(())
    }

    /// Something that may stop a lane, and that is not for the operator to adopt here.
    fn may_stop_for(&mut self, happened: bool) {
        self.cause |= happened;
        self.beyond = true;
    }

    /// Retention: harmless while the record was passed by whoever reads the topic.
    fn expire(&mut self, action: Action) {
        if action == Action::ChangeExpired {
            let produced = self.out.readable().map(|(_, out)| out.source.offset).max();
            let harmless = produced.is_some_and(|at| self.cdc.marks().low <= at);
            let low = self.cdc.marks().low;
            let is_ahead = |member: &Enricher| match member {
                Enricher::Looked { .. } => false,
                Enricher::Running(lane) => lane.next > low,
                Enricher::Idle | Enricher::Stopped(_) => true,
            };
            let is_behind = !self.enrichers.members.iter().all(is_ahead);
            self.may_stop_for(!harmless || is_behind);
            self.cdc.expire();
        } else {
            let low = self.out.marks().low;
            // the last record is the enricher's only sure memory
            let last = low + 1 == self.out.marks().high;
            self.may_stop_for(low >= self.sink.durable() || last);
            self.out.expire();
        }
    }

    /// A topic is made again: whoever reads or writes it notices and begins again.
    fn recreate(&mut self, action: Action) {
        self.cause = true;
        self.enrichers.members.iter_mut().for_each(|member| {
            if !matches!(member, Enricher::Stopped(_)) {
                *member = Enricher::Idle;
            }
        });
        self.wires.clear();
        if action == Action::ChangesRecreated {
            (self.remade, self.born) = (Remade::Changes, self.sent);
            self.cdc = Log::default();
            return;
        }
        self.remade = Remade::Enriched;
        self.out = Log::default();
        for index in 0..2 {
            self.sink_leaves(index);
        }
    }

    /// A consumer that has read what is lost is told so by the broker (KIP-320) and begins again.
    fn truncate(&mut self) {
        self.cut = true;
        self.may_stop_for(true);
        self.out.truncate();
        for index in 0..2 {
            let high = self.out.marks().high;
            let member = self.sink.group().members[index].running();
            if member.is_some_and(|lane| S::next(lane) > high) {
                self.sink_leaves(index);
            }
        }
    }

    fn change_commit(&mut self, action: Action) {
        let (low, high) = (self.cdc.marks().low, self.cdc.marks().high);
        let oldest = self.enrichers.history.first().map(|commit| commit.offset);
        // the commit counts only where the output is empty
        let is_empty = self.out.readable().next().is_none();
        self.may_stop_for(is_empty || oldest.is_some_and(|at| at < low));
        match action {
            Action::CommitRewound => self.enrichers.rewind(),
            Action::CommitDeleted => self.enrichers.committed = None,
            _ => self.enrichers.reset(high),
        }
    }

    fn enricher_happen(&mut self, action: Action) -> Result<(), Violation> {
        let around = Around {
            truth: &self.truth,
            cdc: &self.cdc,
            out: &self.out,
            committed: self.enrichers.committed.as_ref(),
            broken: self.broken,
        };
        let (Action::Looks(index)
        | Action::Opens(index)
        | Action::Judges(index)
        | Action::Appended(index)
        | Action::FirstLost(index)
        | Action::Acknowledged(index)
        | Action::Commits(index)
        | Action::LateLetter(index)
        | Action::Crashes(index)
        | Action::Notices(index)) = action
        else {
            return Ok(());
        };
        let member = &mut self.enrichers.members[index];
        let mut commit = None;
        match (action, &mut *member) {
            (Action::Looks(_), _) => member.look(&around),
            (Action::Opens(_), _) => commit = member.open(&around),
            (Action::Judges(_), Enricher::Running(lane)) => match lane.judge(&around) {
                Ok(letter) => self.letters.extend(letter),
                Err(reason) => *member = Enricher::Stopped(reason),
            },
            (Action::Appended(_), Enricher::Running(lane)) => lane.append(&mut self.out),
            (Action::FirstLost(_), Enricher::Running(lane)) => lane.lose_first(),
            (Action::Acknowledged(_), Enricher::Running(lane)) => lane.acknowledge(),
            (Action::Commits(_), Enricher::Running(lane)) => {
                commit = lane.commit();
                lane.committed(commit.as_ref().map_or(0, |(next, _)| *next));
            }
            (Action::LateLetter(_), Enricher::Running(lane)) => {
                self.letters.extend(lane.late_letter());
            }
            (Action::Crashes(_), Enricher::Running(lane)) => {
                self.wires
                    .extend(Some(lane.on_the_wire()).filter(|wire| !wire.is_empty()));
                *member = Enricher::Idle;
            }
            (Action::Notices(_), _) => {
                if let Enricher::Running(lane) = member {
                    self.wires
                        .extend(Some(lane.on_the_wire()).filter(|wire| !wire.is_empty()));
                }
                *member = Enricher::Idle;
            }
            _ => {}
        }
        if let Some((offset, metadata)) = commit {
            self.enrichers.commit(offset, metadata);
        }
        self.may_stop(index)
    }

    fn may_stop(&self, index: usize) -> Result<(), Violation> {
        match &self.enrichers.members[index] {
            Enricher::Stopped(reason) if !self.cause => Err(Violation::Stopped(reason.clone())),
            _ => Ok(()),
        }
    }

    pub(crate) fn sink_leaves(&mut self, index: usize) {
        self.sink.left(index);
        let member = &mut self.sink.group().members[index];
        if let Member::Running(_) = member {
            *member = Member::Idle;
        }
    }

    fn sink_happen(&mut self, action: SinkAction) -> Result<(), Violation> {
        match action {
            SinkAction::Opens(index) => self.sink_opens(index),
            SinkAction::Commits(index) => {
                let lane = self.sink.group().members[index].running();
                if let Some((offset, metadata)) = lane.and_then(|lane| S::commit(lane, true)) {
                    self.sink.group().commit(offset, metadata);
                }
            }
            SinkAction::LateLetter(index) => {
                let lane = self.sink.group().members[index].running();
                self.sink_letters.extend(lane.and_then(S::late_letter));
            }
            SinkAction::Crashes(index) | SinkAction::Notices(index) => self.sink_leaves(index),
            SinkAction::Moves => {
                let group = self.sink.group();
                if let Some(lane) = group.members[group.owner].running() {
                    S::freeze(lane);
                }
                group.owner = 1 - group.owner;
            }
            SinkAction::CommitRewound | SinkAction::CommitDeleted | SinkAction::CommitReset => {
                self.change_sink_commit(action);
            }
            _ => self.sink_acts(action),
        }
        self.may_sink_stop()?;
        self.judge()
    }

    fn sink_opens(&mut self, index: usize) {
        let up = Upstream {
            truth: &self.truth,
            out: &self.out,
            broken: self.broken,
        };
        let opened = self.sink.open(&up);
        let group = self.sink.group();
        match opened {
            Ok((lane, first)) => {
                group.members[index] = Member::Running(Box::new(lane));
                if let Some((offset, metadata)) = first {
                    group.commit(offset, metadata);
                }
            }
            Err(reason) => group.members[index] = Member::Stopped(reason),
        }
    }

    fn sink_acts(&mut self, action: SinkAction) {
        if is_loss(action) {
            self.may_stop_for(true);
        }
        let up = Upstream {
            truth: &self.truth,
            out: &self.out,
            broken: self.broken,
        };
        let (index, outcome) = self.sink.act(action, &up);
        match outcome {
            Outcome::On => {}
            Outcome::Letter(change) => {
                self.sink_letters.insert(change);
            }
            Outcome::Stopped(reason) => {
                self.sink_leaves(index);
                self.sink.group().members[index] = Member::Stopped(reason);
            }
        }
    }

    fn change_sink_commit(&mut self, action: SinkAction) {
        let (low, high) = (self.out.marks().low, self.out.marks().high);
        let group = self.sink.group();
        let oldest = group.history.first().map_or(0, |commit| commit.offset);
        match action {
            SinkAction::CommitRewound => {
                group.rewind();
                self.may_stop_for(oldest < low);
            }
            SinkAction::CommitDeleted => {
                group.committed = None;
                self.may_stop_for(!S::BEGINS_AGAIN);
            }
            _ => {
                group.reset(high);
                self.may_stop_for(S::RESUMES_AT_COMMIT);
            }
        }
    }

    fn may_sink_stop(&self) -> Result<(), Violation> {
        let cause = self.cause;
        let stopped = self
            .sink
            .view()
            .members
            .iter()
            .find_map(|member| match member {
                Member::Stopped(reason) => Some(reason.clone()),
                _ => None,
            });
        match stopped {
            Some(reason) if !cause => Err(Violation::Stopped(reason)),
            _ => Ok(()),
        }
    }
}

/// Whether the store itself has lost something.
fn is_loss(action: SinkAction) -> bool {
    use crate::redis::Server;
    matches!(
        action,
        SinkAction::Redis(Server::FailedOver | Server::Flushed)
    )
}
