# Confab. `make run` and `make test` are all one needs; `make help` lists the rest.
# Works as root or, where something is missing, with sudo.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run build test test-rust test-clients check bench fuzz clean deps-build deps-test deps-bench

SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
VENV := target/venv
# One job per core is right for two cores; a smaller machine may want `make JOBS=1 test`.
JOBS ?= $(shell nproc)
export CARGO_BUILD_JOBS := $(JOBS)
export CARGO_TERM_COLOR ?= auto

say = @printf '\n\033[1m==> %s\033[0m\n' '$(1)'

# $(call need,COMMAND,DEBIAN PACKAGE): installs the package unless the command is there.
define need
	@if ! command -v $(1) >/dev/null 2>&1; then \
		if ! command -v apt-get >/dev/null 2>&1; then \
			echo "confab needs the command '$(1)' (Debian package $(2)); please install it" >&2; exit 1; \
		fi; \
		printf '==> installing %s\n' '$(2)'; \
		$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(2) >/dev/null \
		|| { $(SUDO) apt-get update -qq && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(2) >/dev/null; }; \
	fi
endef

help: ## show this
	@printf 'Confab: a SIP conference bridge.\n\n'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: deps-build ## build it and start a demo conference to dial into (ctrl-C ends it)
	$(call say,building Confab)
	cargo build --locked --release
	target/release/confab demo

build: deps-build ## build the release binary, target/release/confab
	cargo build --locked --release

test: test-rust test-clients ## every test: unit, simulator, contract, layers, and real SIP clients

test-rust: deps-build
	$(call say,unit tests - simulator - contracts - layers)
	cargo test --locked

test-clients: deps-build deps-test
	$(call say,real SIP clients)
	@shopt -s nullglob; \
	cargo build --locked; \
	for script in tests/clients/*.sh; do \
		printf -- '--> %s\n' "$$script"; \
		CONFAB=$(CURDIR)/target/debug/confab timeout 300 bash "$$script"; \
	done

check: deps-build ## formatting, lints and documentation, warnings being errors
	$(call say,formatting)
	cargo fmt --all --check
	$(call say,lints)
	cargo clippy --locked --all-targets -- -D warnings
	$(call say,documentation)
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --document-private-items

bench: deps-build deps-bench ## measure it beside its references; prints the figures of README
	$(call say,building for measurement)
	cargo build --locked --release
	CONFAB=$(CURDIR)/target/release/confab PYTHON=$(CURDIR)/$(VENV)/bin/python bash benches/run.sh

fuzz: deps-build ## fuzz the wire parsers for a minute each (needs cargo-fuzz)
	@command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz
	@for target in $$(cargo fuzz list); do RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer none "$$target" -- -max_total_time=60; done

clean: ## remove everything that was built
	cargo clean

deps-build:
	@command -v cargo >/dev/null 2>&1 || { echo "confab needs Rust 1.95 or newer; please install it with rustup" >&2; exit 1; }
	$(call need,cc,gcc libc6-dev)

deps-test:
	$(call need,sipp,sip-tester)
	$(call need,baresip,baresip-core)
	$(call need,linphonec,linphone-cli)
	$(call need,curl,curl)

deps-bench:
	$(call need,valgrind,valgrind)
	@if ! [ -x $(VENV)/bin/python ]; then \
		printf '==> making a Python environment for PESQ\n'; \
		command -v python3 >/dev/null 2>&1 && python3 -c 'import venv, ensurepip' 2>/dev/null \
		|| { $(SUDO) apt-get update -qq; $(SUDO) apt-get install -y -qq --no-install-recommends python3 python3-venv python3-dev >/dev/null; }; \
		python3 -m venv $(VENV); \
		$(VENV)/bin/pip install --quiet --disable-pip-version-check 'numpy<2.3' cython pesq; \
	fi
