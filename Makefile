# Every task of this repository; `make help` lists them.
#
# `make demo` and `make test` need Python 3.11 or later alone. Node.js and npm are needed for lint, proto
# and clients; Go for proto and clients.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# The oldest supported Python first, because the newest may be ahead of TensorFlow.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$python" && break; done)
# Each test process imports TensorFlow and starts servers: two of them need 6 GB at most, and keep two
# processors busy.
PYTEST_WORKERS ?= 2
PYTEST_ARGS ?=

BUF := tools/buf/node_modules/.bin/buf
BASELINE := proto/baseline.binpb
GENERATED := clients/python/sidelight/v1 clients/go/sidelight/v1 clients/typescript/src/gen
GO_PROGRAM := build/go/linearity-profile
TYPESCRIPT_PROGRAM := clients/typescript/dist/src/linearity-profile.js

# Stamps: each is touched when what it names has been installed, and is older than what it was made from
# once that changes.
VENV_READY := .venv/.sidelight-venv
DEMO_READY := .venv/.sidelight-demo
SETUP_READY := .venv/.sidelight-setup
PROTO_READY := .venv-proto/.sidelight-setup
BENCH_READY := .venv-bench/.sidelight-setup
ETHIK_READY := .venv-bench-ethik/.sidelight-setup
IMAGE_READY := .venv-image/.sidelight-setup
BUF_READY := tools/buf/node_modules/.sidelight-setup
TYPESCRIPT_READY := clients/typescript/node_modules/.sidelight-setup

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

##### Setting up

# Makes a virtual environment with a pip that knows dependency groups. $(1): its folder.
define make_venv
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or later found; install one, or say which: make PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit("error: %s is Python %d.%d; Sidelight needs 3.11 or later" % (sys.executable, *sys.version_info[:2]) if sys.version_info < (3, 11) else 0)'
	test -x $(1)/bin/python || "$(PYTHON)" -m venv $(1)
	$(1)/bin/python -m pip install --quiet "pip>=25.1"
endef

$(VENV_READY):
	$(call make_venv,.venv)
	@touch $@

$(DEMO_READY): pyproject.toml | $(VENV_READY)
	.venv/bin/python -m pip install --quiet --editable ".[demo]"
	@touch $@

$(SETUP_READY): pyproject.toml | $(VENV_READY)
	.venv/bin/python -m pip install --quiet --editable ".[demo]" --group test --group lint
	@touch $@ $(DEMO_READY)

$(PROTO_READY): pyproject.toml
	$(call make_venv,.venv-proto)
	.venv-proto/bin/python -m pip install --quiet --group proto
	@touch $@

$(BENCH_READY): benchmarks/requirements-reference.txt
	$(call make_venv,.venv-bench)
	.venv-bench/bin/python -m pip install --quiet --requirement $<
	@touch $@

$(ETHIK_READY): benchmarks/goldens/requirements-influence.txt
	$(call make_venv,.venv-bench-ethik)
	.venv-bench-ethik/bin/python -m pip install --quiet --requirement $<
	@touch $@

$(IMAGE_READY): tools/image/requirements.txt
	$(call make_venv,.venv-image)
	.venv-image/bin/python -m pip install --quiet --requirement $<
	@touch $@

$(BUF_READY): tools/buf/package-lock.json
	@$(call need,npm)
	cd tools/buf && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

$(TYPESCRIPT_READY): clients/typescript/package-lock.json
	@$(call need,npm)
	cd clients/typescript && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

# Fails with one clear line if a program is missing. $(1): its name.
need = command -v $(1) >/dev/null || { echo "error: 'make $(MAKECMDGOALS)' needs $(1), which is not on the PATH" >&2; exit 1; }

.PHONY: setup
setup: $(SETUP_READY) ## Make .venv with everything that tests and lint need

##### Using it

.PHONY: demo
demo: $(DEMO_READY) ## Train a small model, serve it, explain it
	.venv/bin/sidelight demo

.PHONY: bench
bench: $(SETUP_READY) $(BENCH_READY) $(ETHIK_READY) ## Measure against the reference libraries, which get an environment of their own
	.venv/bin/python -m benchmarks --reference-python .venv-bench/bin/python \
		--ethik-python .venv-bench-ethik/bin/python

##### Checking it

.PHONY: test
test: $(SETUP_READY) ## Run the tests; PYTEST_ARGS="-k grid" for some of them
	.venv/bin/python -m pytest -n $(PYTEST_WORKERS) --dist loadfile $(PYTEST_ARGS)

.PHONY: lint
lint: $(SETUP_READY) $(BUF_READY) ## Check style and types of Python and of the contract
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	$(BUF) lint
	$(BUF) format --diff --exit-code

.PHONY: format
format: $(SETUP_READY) $(BUF_READY) ## Put Python, Go and the contract into their standard form
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .
	$(BUF) format --write
	gofmt -w clients/go/cmd

.PHONY: image-check
image-check: $(IMAGE_READY) ## Check the Dockerfile and the manifests
	.venv-image/bin/hadolint Dockerfile
	.venv-image/bin/yamllint --strict --config-data '{extends: default, rules: {line-length: {max: 120}, document-start: disable}}' deploy

##### The contract

.PHONY: proto
proto: $(PROTO_READY) $(BUF_READY) $(TYPESCRIPT_READY) ## Generate the stubs of every language
	@$(call need,go)
	mkdir -p build
	$(BUF) build proto --output build/contract.binpb
	# protoc finds its mypy plugins on the PATH.
	PATH="$$PWD/.venv-proto/bin:$$PATH" .venv-proto/bin/python tools/generate_python_stubs.py build/contract.binpb clients/python
	$(BUF) generate
	$(BUF) generate --template clients/typescript/buf.gen.errors.yaml

.PHONY: proto-check
proto-check: proto ## Check that the stubs are up to date and that the contract breaks no released one
	@changed=$$(git status --porcelain -- $(GENERATED)); \
	if [ -n "$$changed" ]; then \
		git --no-pager diff --stat -- $(GENERATED); \
		printf 'error: the stubs are not those of the contract; run "make proto" and commit:\n%s\n' "$$changed" >&2; \
		exit 1; \
	fi
	$(BUF) breaking proto --against $(BASELINE) --exclude-imports

.PHONY: proto-baseline
proto-baseline: $(BUF_READY) ## At a release: make the contract as it is the one that later ones may not break
	$(BUF) build proto --exclude-source-info --output $(BASELINE)

##### The clients

.PHONY: clients
clients: clients-go clients-typescript $(SETUP_READY) ## Build and test the clients, then run their programs against a server
	CLIENT_PROGRAM_GO=$(GO_PROGRAM) CLIENT_PROGRAM_TYPESCRIPT=$(TYPESCRIPT_PROGRAM) \
		.venv/bin/python -m pytest tests/clients/test_go_and_typescript.py

.PHONY: clients-go
clients-go: ## Build and test the Go client
	@$(call need,go)
	@unformatted=$$(gofmt -l clients/go); \
	if [ -n "$$unformatted" ]; then echo "error: gofmt would change: $$unformatted" >&2; exit 1; fi
	cd clients/go && go vet ./... && go test ./... && go build -o ../../$(GO_PROGRAM) ./cmd/linearity-profile

.PHONY: clients-typescript
clients-typescript: $(TYPESCRIPT_READY) ## Build and test the TypeScript client
	cd clients/typescript && npm test

##### Tidying up

.PHONY: clean
clean: ## Remove everything that was made here, environments included
	rm -rf .venv .venv-proto .venv-bench .venv-bench-ethik .venv-image build dist clients/typescript/dist .demo \
		tools/buf/node_modules clients/typescript/node_modules \
		.pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
