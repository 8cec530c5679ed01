# Kafka Connect with Debezium and Engage's connector (docs/connect.md).
#   docker build -f deploy/docker/connect.Dockerfile --target connect .    on Debezium's image, for Compose and plain Kubernetes
#   docker build -f deploy/docker/connect.Dockerfile --target strimzi .    on Strimzi's image, for a KafkaConnect resource
ARG DEBEZIUM_IMAGE=quay.io/debezium/connect:3.7.0.Final
ARG STRIMZI_IMAGE=quay.io/strimzi/kafka:1.2.0-kafka-4.3.1
ARG JDK_IMAGE=eclipse-temurin:17-jdk-noble

# hadolint ignore=DL3006
FROM ${DEBEZIUM_IMAGE} AS debezium

# hadolint ignore=DL3006
FROM ${JDK_IMAGE} AS jar
WORKDIR /build
COPY --from=debezium /kafka/libs libs
COPY --from=debezium /kafka/connect/debezium-connector-postgres plugin
COPY deploy/debezium/src src
RUN javac --release 17 -proc:none -cp "libs/*:plugin/*" -d classes src/io/engage/connect/*.java \
 && mkdir -p classes/META-INF/services \
 && echo io.engage.connect.PostgresConnector > classes/META-INF/services/org.apache.kafka.connect.source.SourceConnector \
 && jar --create --file plugin/engage-connector.jar -C classes .

FROM debezium AS connect
COPY --from=jar /build/plugin/engage-connector.jar /kafka/connect/debezium-connector-postgres/

# hadolint ignore=DL3006
FROM ${STRIMZI_IMAGE} AS strimzi
COPY --from=jar /build/plugin /opt/kafka/plugins/debezium-connector-postgres
