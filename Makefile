# What a newcomer types. Everything that is more than one line is a script of its own, in tests/scripts.
# Every target honours CARGO_TARGET_DIR (default: target) and VT_MYSQL_PREFIX (see install-mysql).

.DEFAULT_GOAL := help
.PHONY: help demo demo-stop build test check sim bench bench-coordinator bench-failover suites chaos soak router-soak fire hosts-test install-mysql

scripts := tests/scripts
# Where the scripts find the programs that `make build` made.
export VT_BIN_DIR ?= $(abspath $(or $(CARGO_TARGET_DIR),target)/release)

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: build ## a replicated cluster on this machine that survives the death of its primary; installs what it needs
	$(scripts)/demo

demo-stop: ## end the demo's cluster and remove its data
	$(scripts)/demo stop

build: ## the three programs, optimised, into target/release
	$(scripts)/need cc=gcc
	cargo build --release --workspace --locked

test: ## every test: cores, simulator, real clusters on real mysqld; installs what they need
	$(scripts)/run-tests

check: ## format and lints, as CI wants them
	$(scripts)/need cc=gcc
	@cargo fmt --version >/dev/null && cargo clippy --version >/dev/null || rustup component add rustfmt clippy
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

sim: ## SEEDS=N FIRST_SEED=M: simulated coordinator groups and failovers, a seed each; failing ones are told with their story
	$(scripts)/sim $(or $(SEEDS),5000) $(or $(FIRST_SEED),1)

bench: build ## side by side with HAProxy and MySQL Router; figures into target/bench
	tests/bench/run

bench-coordinator: build ## vt-coordinator side by side with etcd; figures into target/bench
	tests/bench/coordinator

bench-failover: build ## TRIALS=20 EVENTS="": how long clients wait when hosts, servers and disks fail; needs root
	BENCH_TRIALS=$(or $(TRIALS),20) BENCH_EVENTS="$(EVENTS)" tests/bench/failover

suites: build ## SUITES="": clients' own test suites through the router and directly, failures compared; figures into target/bench
	tests/suites/run $(SUITES)

chaos: build ## ROWS="": the fault matrix on three hosts with real mysqld, every row or some; needs root
	$(scripts)/chaos matrix $(ROWS)

soak: build ## MINUTES=30 SEED="": random faults of the matrix, also several at once; needs root
	$(scripts)/chaos soak $(or $(MINUTES),30) $(SEED)

router-soak: build ## MINUTES=60: routers used by sessions of every kind while connections are killed: nothing of others, nothing that grows
	$(scripts)/router-soak $(or $(MINUTES),60)

# How long one run of `make fire` plays, and how many there are; VT_FIRE_SEED=N plays the plan of that seed again, then the next.
SECONDS ?= 180
TIMES ?= 1

fire: build ## SECONDS=180 TIMES=1: three real coordinators killed, paused, cut off and starved, with a seed each time; needs root
	$(scripts)/fire $(SECONDS) $(TIMES)

hosts-test: build ## the playbook on three fresh hosts with systemd, on this machine; needs root
	$(scripts)/hosts-test

install-mysql: ## a real MySQL outside the repository; prints where
	@$(scripts)/install-mysql
