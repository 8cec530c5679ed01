//! Event times far from now, in the load itself.
//!
//! Invariant: nothing is broken; what is written is verified with everything else.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sqlx::{Connection, PgConnection};

use super::{Class, Company};
use crate::Arena;
use crate::load::{Rows, copy, now};

/// Rows of one fault.
const ROWS: usize = 300;
const TEN_YEARS_US: i64 = 3_652 * 86_400 * 1_000_000;

/// The classes of this module.
pub const CLASSES: &[Class] = &[Class {
    name: "times.ten-years",
    about: "a transaction of events ten years back and ten years ahead",
    company: Company::Any,
    weight: 1,
    inject: |arena, rng| Box::pin(ten_years(arena, rng)),
}];

async fn ten_years(arena: &Arena, rng: &mut ChaCha8Rng) -> anyhow::Result<String> {
    let mut connection = PgConnection::connect(&arena.addresses.postgres_url).await?;
    let contents: Vec<String> =
        sqlx::query_scalar("SELECT id::text FROM content ORDER BY slug LIMIT 50")
            .fetch_all(&mut connection)
            .await?;
    anyhow::ensure!(!contents.is_empty(), "there are no contents yet");
    let mut rows = Rows::new(ChaCha8Rng::from_rng(rng));
    let mut transaction = connection.begin().await?;
    for _ in 0..3 {
        let ahead = now() + rng.random_range(0..TEN_YEARS_US);
        let back = now() - rng.random_range(0..TEN_YEARS_US);
        for at in [ahead, back] {
            let text = rows.copy(&contents, ROWS / 6, at);
            copy(&mut transaction, "engagement_events", &text).await?;
        }
    }
    transaction.commit().await?;
    Ok(format!("{ROWS} events"))
}
