package io.engage.connect;

import io.debezium.connector.postgresql.PostgresConnectorTask;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.connect.source.SourceRecord;

/**
 * Debezium's task, with another position on the first records of an update that changes the record key.
 *
 * <p>Debezium writes such an update as a deletion under the old key, a tombstone, and an insertion under the new key, all with
 * the position after the update (debezium/dbz#2549). The first and the last go to two partitions, so that one can be
 * acknowledged without the other. Connect then stores that position, and after a restart the insertion is never sent.
 *
 * <p>Here all but the insertion carry the position at which the transaction before ended. A restart between them sends the
 * transaction again from its beginning; readers of the topic recognise what they have seen.
 */
public final class PostgresTask extends PostgresConnectorTask {
    /** On the deletion: the key that the insertion will have. */
    private static final String NEW_KEY = "__debezium.newkey";
    /** On the insertion: the key that the deletion had. */
    private static final String OLD_KEY = "__debezium.oldkey";

    private boolean insideKeyChange;

    @Override
    public List<SourceRecord> doPoll() throws InterruptedException {
        List<SourceRecord> records = super.doPoll();
        if (records != null) {
            records.replaceAll(this::withSafePosition);
        }
        return records;
    }

    private SourceRecord withSafePosition(SourceRecord record) {
        if (has(record, NEW_KEY)) {
            insideKeyChange = true;
        } else if (has(record, OLD_KEY)) {
            insideKeyChange = false;
        }
        return insideKeyChange ? at(beforeTransaction(record.sourceOffset()), record) : record;
    }

    private static boolean has(SourceRecord record, String header) {
        return record.headers().lastWithName(header) != null;
    }

    /** The position as it was when the transaction before had been committed; before the first one, where the slot begins. */
    static Map<String, ?> beforeTransaction(Map<String, ?> position) {
        Map<String, Object> before = new HashMap<>(position);
        before.remove("lsn_events_processed");
        Object commit = position.get("lsn_commit");
        if (commit == null) {
            before.remove("lsn_proc");
            before.remove("messageType");
        } else {
            before.put("lsn", commit);
            before.put("lsn_proc", commit);
            before.put("messageType", "COMMIT");
        }
        return before;
    }

    private static SourceRecord at(Map<String, ?> position, SourceRecord record) {
        return new SourceRecord(
                record.sourcePartition(),
                position,
                record.topic(),
                record.kafkaPartition(),
                record.keySchema(),
                record.key(),
                record.valueSchema(),
                record.value(),
                record.timestamp(),
                record.headers());
    }
}
