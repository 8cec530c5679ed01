//! What is known of a partition that is not read, and of a broker that stands still.

use std::time::{Duration, Instant};

use stream::status::LaneState;
use stream::{LaneError, LaneHandle};

use crate::support::{Member, create_at, eventually, fill_at, options, settings_at, unique};

/// A dependency that stands still is told within this time.
const PROMISED: Duration = Duration::from_secs(10);

/// Stops in partition 1, reads the other.
async fn half(mut lane: LaneHandle) -> Result<(), LaneError> {
    let next = lane.committed().map_or(0, |commit| commit.offset);
    lane.start(next).await?;
    if lane.partition() == 1 {
        return Err(LaneError::stop("as asked", "nothing"));
    }
    while let Some(record) = lane.recv().await {
        lane.commit(record.offset + 1, String::new());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lag_of_a_stopped_partition_follows_its_log_and_a_frozen_broker_is_told_in_time() {
    let starting = devstack::Stack::builder().kafka().private().start();
    let stack = starting.await.unwrap();
    let settings = settings_at(&stack.kafka().bootstrap);
    let (topic, group) = (unique("pulse"), unique("g"));
    create_at(&settings, &topic, 2, &[]).await;
    let member = Member::start(options(settings.clone(), &group, &topic), half);
    let stopped = async |lag: i64| {
        eventually(&format!("a stopped lane with lag {lag}"), async || {
            let lanes = member.status.lanes();
            let lane = lanes.iter().find(|lane| lane.partition == 1);
            match lane {
                Some(lane)
                    if matches!(lane.state, LaneState::Stopped { .. }) && lane.lag == lag =>
                {
                    Ok(lane.behind_seconds)
                }
                other => Err(format!("{other:?}")),
            }
        })
        .await
    };
    stopped(0).await;
    fill_at(&settings, &topic, 1, 0..7);
    stopped(7).await;
    fill_at(&settings, &topic, 1, 7..10);
    let earlier = stopped(10).await;
    eventually("ever further behind", async || match stopped(10).await {
        later if later > earlier => Ok(()),
        later => Err(later.to_string()),
    })
    .await;

    let begun = Instant::now();
    stack.kafka().pause().unwrap();
    let is_silent = |reason: &str| reason.contains("the broker does not answer");
    while !member
        .status
        .readiness()
        .is_err_and(|reason| is_silent(&reason))
    {
        assert!(
            begun.elapsed() < PROMISED,
            "{:?}",
            member.status.readiness()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(member.status.liveness(), Ok(()));
    stack.kafka().resume().unwrap();
    eventually("heard again", async || match member.status.readiness() {
        Err(reason) if reason.contains("is stopped") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    member.stop().await;
}
