//! Every check, asked of every sink at once, on one private stack.

mod lineage;

use compliance::{checks, of_every_sink};

macro_rules! checks {
    ($($name:ident),* $(,)?) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            of_every_sink(stringify!($name), checks::$name).await;
        }
    )*};
}

checks! {
    duplicates_are_dropped,
    a_new_epoch_is_followed,
    a_crash_before_the_commit_repeats_nothing,
    poison_is_isolated,
    a_refused_dead_letter_is_not_passed_over,
    an_outage_of_the_store_heals,
    a_shutdown_in_the_middle_of_a_batch_loses_nothing,
    a_zombies_late_write_changes_nothing,
    a_standstill_right_before_the_write_changes_nothing,
    telemetry_is_there,
    a_hole_stops_its_lane_and_names_the_command,
    lost_group_offsets_change_nothing,
}
