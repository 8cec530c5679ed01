package io.engage.connect;

import org.apache.kafka.connect.connector.Task;

/**
 * Debezium's Postgres connector, whose stored position never lies between the two records of one update.
 *
 * @see PostgresTask
 */
public final class PostgresConnector extends io.debezium.connector.postgresql.PostgresConnector {
    @Override
    public Class<? extends Task> taskClass() {
        return PostgresTask.class;
    }
}
