//! Postgres: what `check` asks, then slot, heartbeat, clock and version.

use platform::{Component, Recovery, WalStatus};

use super::{Notes, checked, refused};
use crate::doctor::judge::version::Product;
use crate::doctor::judge::{clock, slot, version};
use crate::doctor::report::Diagnosis;
use crate::doctor::{Asked, captured};

pub(in crate::doctor) async fn look(asked: Asked, notes: Notes) {
    let config = &asked.config;
    if checked(&asked, Component::Postgres, &notes).await.is_none() {
        return;
    }
    let name = &config.connect.slot;
    let facts = match platform::database_facts(&config.database, name).await {
        Ok(facts) => facts,
        Err(error) => return notes.add(refused("postgres", &error)),
    };
    notes.add([
        version::judge(Product::Postgres, &facts.version),
        clock::judge("postgres", &facts.clock, 1),
    ]);
    if !asked.capture {
        return;
    }
    notes.add(slot::judge(name, &facts, asked.retained));
    if facts.slot.wal_status == WalStatus::Lost {
        notes.add([lost(&asked).await]);
    }
}

async fn lost(asked: &Asked) -> Diagnosis {
    let config = &asked.config;
    let captured = captured::captured(config).await;
    let recovery = Recovery::new(&config.connect, captured, asked.margin);
    Diagnosis::error(
        format!("slot {}", config.connect.slot),
        "wal_status is lost: Postgres has removed WAL that was not read",
    )
    .right("max_slot_wal_keep_size above what is written during the longest outage of Connect")
    .next(recovery.to_string())
}
