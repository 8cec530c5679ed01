#!/usr/bin/env bash
# Loses each store in turn, with the real servers: lost, named, repaired, verified. `make drill`, `make drill DRILL=redis`.
# Each line is a test of this repository that fails where one of the four does not happen; docs/disaster-recovery.md says
# what is lost, what Engage says and which command goes on.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# store | package | test binary | test | lost | named | repaired
drills() { cat <<'TABLE'
postgres|enricher|it|changes_that_contradict_the_mark_stop_the_lane|restored from an older copy|changes below the mark|lineage adopt --new-epoch
postgres|enricher|it|another_database_than_the_one_noted_with_the_mark_is_refused|replaced by another one|system identifier|lineage adopt --new-epoch
slot|chaos|refusals|a_dropped_slot_is_named_by_check_and_capture_does_not_go_on_silently|replication slot dropped|check: slot is gone|stays stopped until a person decides
change-topic|compliance|compliance|a_recreated_topic_and_an_overtaken_position_are_refused_then_adopted_and_every_sink_is_exact|change and enriched topic made anew, retention|exit 78, lineage show|lineage adopt --execute
enriched-topic|enricher|it|a_recreated_output_is_refused|enriched topic made anew|lane stops, topic recreated|lineage adopt --execute
group-offsets|enricher|it|a_restart_continues_at_the_tail_whatever_happened_to_the_groups_offsets|the enricher's offsets|nothing to name|by itself, from its own output
group-offsets|clickhouse-sink|it|rewound_and_lost_offsets_write_nothing_twice|clickhouse-sink's offsets|nothing to name|by itself, reads back
group-offsets|redis-aggregator|it|a_rewound_group_and_repeated_records_change_nothing|redis-aggregator's offsets|nothing to name|by itself, position is in Redis
group-offsets|webhook-forwarder|it|a_known_endpoint_without_a_position_on_a_partition_stops_there_instead_of_skipping|an endpoint's offsets|lane stops|a position is committed by hand
clickhouse|chaos|refusals|an_emptied_table_retention_and_a_recreated_topic_are_named_and_can_be_adopted|table emptied|lane stops, it was emptied|lineage adopt --table refill
clickhouse|clickhouse-sink|it|a_table_from_an_older_copy_is_refused_and_the_log_brings_the_rest_once|table restored from an older copy|lane stops|lineage adopt --table refill
clickhouse|engagectl|it|an_emptied_table_is_filled_again_from_the_first_record_of_the_log|table emptied|lane stops, it was emptied|rebuild clickhouse --execute
redis|engagectl|it|an_emptied_redis_is_made_anew_under_a_live_stream_and_is_what_it_would_have_been|emptied|exit 78, redis was wiped|rebuild redis --execute
redis|e2e|repair|a_redis_emptied_under_load_is_refused_and_made_anew_by_a_rebuild_that_is_killed_half_way|emptied under load|exit 78, redis was wiped|rebuild redis, killed, run again
redis|redis-aggregator|it|a_wiped_redis_is_recognised_while_running_and_at_the_next_start|emptied|exit 78, redis was wiped|keys and group removed, counts anew
redis|redis-aggregator|it|an_empty_redis_before_a_log_without_its_beginning_is_refused_unless_that_is_wanted|emptied, log has no beginning|totals would lack what has expired|input.partial_totals = true
connect-offsets|e2e|e2e|a_worker_that_lost_its_offsets_takes_a_snapshot_again_and_every_sink_is_exact|Connect's offsets deleted|nothing to name|by itself, snapshot, every sink equal
TABLE
}

wanted=${1:-}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed=0 ran=0
printf '%-15s %-46s %-36s %-40s %s\n' store lost named repaired verified
while IFS='|' read -r store package binary test lost named repaired; do
  [ -z "$wanted" ] || [ "$wanted" = "$store" ] || continue
  ran=$((ran + 1))
  # The same build as `make test`; a name that no test has would run nothing and succeed.
  if cargo test --locked --workspace --features faults --test "$binary" -- "$test" >"$log" 2>&1 </dev/null &&
    [ "$(grep -c '^test result: ok. 1 passed' "$log")" = 1 ]; then verified="yes ($package)"; else verified="NO"; failed=1; fi
  printf '%-15s %-46s %-36s %-40s %s\n' "$store" "$lost" "$named" "$repaired" "$verified"
  [ "$verified" != NO ] || tail -25 "$log"
done < <(drills)
[ "$ran" -gt 0 ] || { echo "no such store: $wanted; one of: $(drills | cut -d'|' -f1 | uniq | tr '\n' ' ')" >&2; exit 64; }
exit "$failed"
