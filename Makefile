# Confab. `make run` and `make test` are all one needs; `make help` lists the rest.
# Works as root or, where something is missing, with sudo.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run build models test check budget bench bench-criterion licenses fuzz clean deps-build deps-test deps-venv deps-models deps-bench

SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
# The one Python environment: for the clients that the tests drive, and for the PESQ of the benchmarks.
VENV := target/venv
PIP := $(VENV)/bin/python -m pip --quiet --disable-pip-version-check
# Where the speech recogniser's models are: the default of the option transcribe.models.
MODELS := models
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
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: deps-build ## build it and start a demo conference to dial into (ctrl-C ends it)
	@$(MAKE) --no-print-directory models || echo 'going on without speech recognition; `make models` fetches it'
	$(call say,building Confab)
	cargo build --locked --release
	target/release/confab demo

build: deps-build ## build the release binary, target/release/confab
	cargo build --locked --release

models: ## fetch the speech recogniser's models (30 MB) into models/ and check them
	@bash deploy/fetch-models.sh --check $(MODELS) || { \
		$(MAKE) --no-print-directory deps-models && bash deploy/fetch-models.sh $(MODELS); \
	}

test: deps-build deps-test models ## every test: unit, simulator, contract, layers, real SIP and REST clients
	$(call say,every test)
	cargo test --locked --no-fail-fast

check: deps-build ## formatting, lints and documentation, warnings being errors
	$(call say,formatting)
	cargo fmt --all --check
	$(call say,lints)
	cargo clippy --locked --all-targets -- -D warnings
	$(call say,documentation)
	RUSTDOCFLAGS='-D warnings -A rustdoc::private-intra-doc-links' cargo doc --locked --no-deps --document-private-items

budget: deps-build ## count the instructions of the hot paths and hold them against benches/budget
	$(call need,valgrind,valgrind)
	$(call say,instructions of the hot paths)
	bash benches/budget.sh

bench: deps-build deps-bench ## measure it beside its references; prints the figures of README
	$(call say,building for measurement)
	cargo build --locked --release
	CONFAB_BIN=$(CURDIR)/target/release/confab PESQ_PYTHON=$(CURDIR)/$(VENV)/bin/python python3 benches/report.py

bench-criterion: deps-build ## time the hot paths one by one
	cargo bench --locked --bench hot_path

licenses: deps-build ## check what is linked in: licences, banned crates, sources (builds cargo-deny the first time)
	@command -v cargo-deny >/dev/null || cargo install --locked cargo-deny
	cargo deny --locked check licenses bans sources

fuzz: deps-build ## fuzz what reads bytes from the wire, a minute each target
	@command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz
	@for target in $$(cargo fuzz list); do \
		printf '==> fuzzing %s\n' "$$target"; \
		mkdir -p "fuzz/corpus/$$target"; \
		seeds=(); options=(-max_total_time=60); \
		if [ -d "fixtures/$$target" ]; then seeds+=("fixtures/$$target"); fi; \
		if [ -f "fuzz/dictionaries/$$target.dict" ]; then options+=("-dict=fuzz/dictionaries/$$target.dict"); fi; \
		RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer none "$$target" "fuzz/corpus/$$target" "$${seeds[@]}" -- "$${options[@]}"; \
	done

clean: ## remove everything that was built
	cargo clean

deps-build:
	@command -v cargo >/dev/null 2>&1 || { echo "confab needs Rust 1.95 or newer; please install it with rustup" >&2; exit 1; }
	$(call need,cc,gcc libc6-dev)

# PostgreSQL's programs are not in the PATH. Tests start servers of their own: the distribution makes none.
deps-test: deps-venv ## install the clients that the tests drive
	$(call need,sipp,sip-tester)
	$(call need,baresip,baresip-core)
	$(call need,linphonec,linphone-cli)
	$(call need,opusdec,opus-tools)
	$(call need,curl,curl)
	$(call need,jq,jq)
	$(call need,pg_createcluster,postgresql-common)
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || \
		$(SUDO) sed -i 's/^#\? *create_main_cluster *=.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
	$(call need,/usr/lib/postgresql/*/bin/initdb,postgresql)
	@if ! cmp -s tests/compat/requirements.txt $(VENV)/compat.txt; then \
		printf '==> installing the clients of the REST API\n'; \
		$(PIP) install --requirement tests/compat/requirements.txt; \
		cp tests/compat/requirements.txt $(VENV)/compat.txt; \
	fi

# Debian's python3 has no ensurepip: that is in python3-venv.
deps-venv:
	@if ! $(VENV)/bin/python -m pip --version >/dev/null 2>&1; then \
		printf '==> making a Python environment in %s\n' '$(VENV)'; \
		if ! python3 -c 'import venv, ensurepip' 2>/dev/null; then \
			if ! command -v apt-get >/dev/null 2>&1; then \
				echo "confab's tests need python3 (3.10 or newer) with venv; please install it" >&2; exit 1; \
			fi; \
			$(SUDO) apt-get update -qq; \
			$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3 python3-venv >/dev/null; \
		fi; \
		python3 -m venv --clear $(VENV); \
	fi

deps-models:
	$(call need,npm,npm)
	@if ! python3 -m pip --version >/dev/null 2>&1; then \
		if ! command -v apt-get >/dev/null 2>&1; then \
			echo "confab's speech models need python3 with pip to be fetched; please install it" >&2; exit 1; \
		fi; \
		printf '==> installing %s\n' python3-pip; \
		$(SUDO) apt-get update -qq; \
		$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-pip >/dev/null; \
	fi

# Python.h and a C compiler are needed: the pesq package comes as source.
deps-bench: deps-build deps-venv
	@if ! $(VENV)/bin/python -c 'import numpy, pesq' 2>/dev/null; then \
		printf '==> installing PESQ\n'; \
		ready='import os, sysconfig; assert os.path.exists(sysconfig.get_path("include") + "/Python.h")'; \
		if ! $(VENV)/bin/python -c "$$ready" 2>/dev/null; then \
			if ! command -v apt-get >/dev/null 2>&1; then \
				echo "confab's benchmarks need the C headers of python3; please install them" >&2; exit 1; \
			fi; \
			$(SUDO) apt-get update -qq; \
			$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-dev >/dev/null; \
		fi; \
		$(PIP) install 'numpy<2.3' cython pesq; \
	fi
