# Engage. `make help` lists every target; README.md says what they are for.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup build images validate-deploy chaos chaos-quick operations bench-backfill check-points demo up down status test test-unit test-secure drill lint secrets sbom fuzz bench bench-quick clean

DURATION ?=
RATE ?=
PROVISION := deploy/provision/provision.sh
CTL := target/release/engagectl
SERVICES := enricher clickhouse-sink redis-aggregator webhook-forwarder
MINUTES ?= 10
SEED ?=
OUTAGE ?=
TRACING ?=
TRACED := $(if $(filter-out 0,$(TRACING)),--tracing)

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Install what is missing on a Debian machine (as root), fetch Kafka, Debezium and ClickHouse; TRACING=1 builds Jaeger
	@$(PROVISION) $(TRACED)

build: setup ## Build every service and engagectl, optimised
	cargo build --release --locked --workspace --exclude chaos --bins
	@! grep -l -e ENGAGE_FAULTS -e ENGAGE_BROKEN $(SERVICES:%=target/release/%) $(CTL) || { echo 'fault points in a release build: build without --features faults' >&2; exit 1; }

demo: build ## Whole pipeline with a live view; DURATION=60s ends by itself and compares every sink with Postgres; RATE=100/s; TRACING=1
	@$(CTL) demo $(if $(DURATION),--duration $(DURATION)) $(if $(RATE),--rate $(RATE)) $(TRACED)

up: build ## Start whatever is not running, in the background; RATE=100/s also generates a stream; TRACING=1 shows it in Jaeger
	@$(CTL) up $(if $(RATE),--rate $(RATE)) $(TRACED)

down: ## Stop what `make up` started
	@$(CTL) down

status: ## Show what is running, with readiness of each service
	@$(CTL) status

images: ## Build every image, where a container engine is; STRIMZI=1 also Connect's for Strimzi
	@deploy/docker/images.sh $(if $(STRIMZI),--strimzi)

validate-deploy: ## Validate Dockerfiles, docker-compose.yml and every overlay of k8s/; FULL=1 also a dry run by a real API server
	@deploy/validate/validate.sh $(if $(FULL),--server)

test: ## Everything CI runs: format, lints, docs, licences, unit, integration and end-to-end tests
	@$(PROVISION) --dev --deploy
	$(MAKE) --no-print-directory lint
	deploy/validate/validate.sh $$(command -v go >/dev/null || echo --quick)
	$(MAKE) --no-print-directory check-points
	cargo build --locked --workspace --bins --examples --features faults
	@grep -q -e enricher.lookup target/debug/enricher || { echo 'the fault points are not in the test build' >&2; exit 1; }
	cargo test --locked --workspace --features faults --doc
	cargo test --locked --workspace --features faults --lib --bins --test it --no-fail-fast
	cargo test --locked --workspace --features faults --test e2e
	cargo test --locked --workspace --features faults --test repair -- --test-threads=1
	cargo test --locked --workspace --features faults --test traces
	cargo test --locked --workspace --features faults --test secure
	cargo test --locked --workspace --features faults --test monitoring
	cargo test --locked --workspace --features faults --test compliance -- --test-threads=4
	cargo test --locked --workspace --features faults --test refusals
	cargo test --locked --workspace --features faults --test chaos

test-secure: setup ## The pipeline with TLS, passwords from files and least rights in every server; what is wrong with access is named
	cargo build --locked --workspace --bins --features faults
	cargo test --locked --workspace --features faults --test secure

drill: setup ## Lose each store in turn: lost, named, repaired, verified (docs/disaster-recovery.md); DRILL=redis for one
	cargo build --locked --workspace --bins --features faults
	@tests/drill.sh $(DRILL)

chaos: setup ## Faults by seed under mixed load, then the proof; MINUTES=60 SEED=7 RATE=1000 OUTAGE=5m; appends to docs/chaos-ledger.md
	cargo build --release --locked --workspace --bins --features faults --target-dir target/chaos
	target/chaos/release/chaos --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(if $(RATE),--rate $(RATE)) $(if $(OUTAGE),--outage $(OUTAGE)) --ledger docs

operations: ## A rolling restart, and one, four and two replicas of each sink, under load; ROLLING_RATE=1000 rows a second
	cargo build --release --locked --workspace --bins --features faults --target-dir target/chaos
	cargo test --release --locked --workspace --features faults --target-dir target/chaos --test operations -- --test-threads=1 --nocapture

bench-backfill: setup ## A backfill in rows a second, beside a plain Python script and beside a live stream; ROWS=1000000 LIVE=1000
	cargo build --release --locked --workspace --bins --features faults --target-dir target/chaos
	@test -x target/python/bin/python || python3 -m venv target/python
	target/python/bin/pip install --quiet --disable-pip-version-check "psycopg[binary]" clickhouse-connect
	BACKFILL_PYTHON=$(CURDIR)/target/python/bin/python BACKFILL_ROWS=$(or $(ROWS),1000000) BACKFILL_LIVE_RATE=$(or $(LIVE),1000) \
	  cargo test --release --locked --workspace --features faults --target-dir target/chaos --test operations -- --test-threads=1 --nocapture backfill

chaos-quick: ## Every fault point in every service, every class of fault once, then each rule broken: 14 minutes with seed 4
	cargo build --locked --workspace --bins --features faults
	cargo test --locked --workspace --features faults --test chaos -- --nocapture
	cargo test --locked --workspace --features faults --test broken -- --test-threads=1 --nocapture

check-points: ## A release build passes fault points without a trace of them
	cargo build --release --locked -p faults --example points --target-dir target/points
	@! grep -q -e ENGAGE_FAULTS -e ENGAGE_BROKEN -e enricher.lookup target/points/release/examples/points

test-unit: ## Unit tests only; no server is started
	cargo test --locked --workspace --lib --bins

lint: secrets ## Format, clippy, rustdoc, licence and secret checks, warnings are errors
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --quiet
	cargo fetch --locked --quiet
	$$($(PROVISION) --print cargo-deny) --offline --log-level error check bans licenses sources

secrets: ## Look for secrets in the files of the repository beside those known in .secrets.baseline
	@git ls-files -z ':!.secrets.baseline' | xargs -0 -n 200 -P 2 deploy/provision/secrets.sh $$($(PROVISION) --print detect-secrets-hook)

sbom: ## What every service is made of (CycloneDX, JSON), into target/sbom
	@$(PROVISION) --sbom
	@deploy/provision/sbom.sh target/sbom $(SERVICES) engagectl

FUZZ_SECONDS ?= 60
FUZZ_TARGET ?= envelope letter lineage wire config webhook
FUZZ_FLAGS := -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=3 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
	-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions
FUZZ_HOST := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')

fuzz: ## Look for inputs that break a parser; FUZZ_TARGET=wire FUZZ_SECONDS=600
	RUSTFLAGS="$(FUZZ_FLAGS)" cargo build --release --locked -p fuzz --features libfuzzer --target $(FUZZ_HOST) --target-dir target/fuzz
	@mkdir -p target/fuzz-artifacts
	@for target in $(FUZZ_TARGET); do echo "fuzzing $$target for $(FUZZ_SECONDS) s"; mkdir -p target/fuzz-corpus/$$target; \
	  FUZZ_TARGET=$$target target/fuzz/$(FUZZ_HOST)/release/fuzz-target target/fuzz-corpus/$$target fuzz/corpus/$$target \
	    -max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix=target/fuzz-artifacts/$$target- || exit 1; done

bench: ## Time of the pure transform per event, with confidence intervals
	cargo bench --locked -p benches

bench-quick: ## The same with few samples
	cargo bench --locked -p benches -- --quick

clean: ## Remove build output and the demo's data (stop it first with `make down`)
	cargo clean
	rm -rf .devstack
