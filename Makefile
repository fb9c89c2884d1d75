# `make` lists the commands. One virtual environment serves them all: `make demo` installs what the server needs and
# builds its dashboard, and the other commands add the developers' tools to it. Everything installed is pinned by hash in
# a lock file.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
WORKERS ?= 2

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
JS := tests/system/js
DASHBOARD := agrenting/dashboard
SDK := agrenting/client

# A stamp carries a checksum of what was installed, so that a repeated command starts at once and a changed lock file
# installs anew.
SERVER := $(VENV)/.server-$(shell cat pyproject.toml requirements.lock | cksum | cut -d ' ' -f 1)
TOOLS := $(VENV)/.tools-$(shell cat pyproject.toml requirements.lock requirements-dev.lock | cksum | cut -d ' ' -f 1)
CLIENTS := $(JS)/node_modules/.installed-$(shell cat $(JS)/package-lock.json | cksum | cut -d ' ' -f 1)

NODE := $(VENV)/.node-$(shell cat requirements-page.lock | cksum | cut -d ' ' -f 1)
PACKAGES := $(DASHBOARD)/node_modules/.installed-$(shell cat $(DASHBOARD)/package-lock.json | cksum | cut -d ' ' -f 1)
PAGE := $(DASHBOARD)/dist/.built-$(shell find $(DASHBOARD) \( -name node_modules -o -name dist \) -prune -o -type f -print \
	| LC_ALL=C sort | xargs cat | cksum | cut -d ' ' -f 1)

# What the dashboard's build needs. Source: engines of vite's package.json.
NODE_IS_NEW := const [major, minor] = process.versions.node.split(".").map(Number); \
	process.exit(major > 22 || (major === 22 && minor >= 12) || (major === 20 && minor >= 19) ? 0 : 1)

# The tools and the Node.js of the environment come before the machine's own, so that every machine tests with one version.
export PATH := $(abspath $(BIN)):$(PATH)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo dashboard test test-long lint format bench screenshots build setup lock clean

help: ## List the commands
	@echo 'Usage: make COMMAND [ARGS="…"] [VENV=folder] [PYTHON=python3.x]'
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' $(firstword $(MAKEFILE_LIST)) | awk -F '|' '{ printf "%-14s%s\n", $$1, $$2 }'

demo: $(SERVER) $(PAGE) ## Watch agents meet, bargain, work, get paid, and fail to cheat (ARGS=--once ends after one deal)
	@$(BIN)/agrenting demo $(ARGS)

dashboard: $(PAGE) ## Build the page that the server shows at /

test: $(TOOLS) $(CLIENTS) $(PAGE) ## Run the tests, WORKERS at a time; all of them also measure coverage (ARGS="tests/crypto -x" runs a part)
ifeq ($(strip $(ARGS)),)
	cd $(DASHBOARD) && npm test
	$(BIN)/python -m pytest --cov -n $(WORKERS) --dist worksteal
	$(BIN)/coverage report --include='channels/*,crypto/*' --fail-under=100
else
	$(BIN)/python -m pytest $(ARGS)
endif

test-long: $(TOOLS) $(CLIENTS) $(PAGE) ## Run what takes over a minute by design
	$(BIN)/python -m pytest -m long $(ARGS)

lint: $(TOOLS) $(PACKAGES) ## Check format, style, types and the direction of imports
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	cd $(DASHBOARD) && npm run check

format: $(TOOLS) ## Rewrite the sources in the house's format
	$(BIN)/ruff check --fix-only --exit-zero
	$(BIN)/ruff format

bench: $(TOOLS) ## Measure, as ratios against peers in the same run
	$(BIN)/python -m benchmarks $(ARGS)

screenshots: $(TOOLS) $(CLIENTS) $(PAGE) ## Take the README's two pictures of the dashboard, of a market that is alive
	$(BIN)/python -m tests.browser.pictures docs

build: $(SERVER) $(PAGE) ## Build both wheels into dist: the server with its dashboard, and the client for agents
	$(BIN)/python -m hatchling build -t wheel
	cd $(SDK) && "$(abspath $(BIN))/python" -P -m hatchling build -t wheel -d "$(abspath dist)"

setup: $(TOOLS) $(CLIENTS) $(PAGE) ## Install everything that the other commands need

lock: $(TOOLS) ## Pin what pyproject.toml asks for (ARGS=--upgrade takes newer versions)
	$(BIN)/uv pip compile $(LOCK_FLAGS) pyproject.toml --group build --output-file requirements.lock $(ARGS)
	$(BIN)/uv pip compile $(LOCK_FLAGS) pyproject.toml --group dev --constraints requirements.lock \
		--output-file requirements-dev.lock $(ARGS)
	$(BIN)/uv pip compile $(LOCK_FLAGS) --group pyproject.toml:page --constraints requirements-dev.lock \
		--output-file requirements-page.lock $(ARGS)
	$(BIN)/uv pip compile $(LOCK_FLAGS) $(SDK)/pyproject.toml --constraints requirements.lock \
		--output-file tests/system/locks/client.lock $(ARGS)
	$(BIN)/uv pip compile $(LOCK_FLAGS) $(SDK)/pyproject.toml tests/system/locks/beside.in \
		--constraints requirements.lock --output-file tests/system/locks/beside.lock $(ARGS)
	cd $(JS) && npm install --package-lock-only
	cd $(DASHBOARD) && npm install --package-lock-only

LOCK_FLAGS := --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url

clean: ## Remove the environment, what was built, caches and reports
	rm -rf "$(VENV)" $(JS)/node_modules $(DASHBOARD)/node_modules $(DASHBOARD)/dist build dist htmlcov .coverage .coverage.* .hypothesis .import_linter_cache \
		.mypy_cache .pytest_cache .ruff_cache .schemathesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo 'Agrenting needs Python 3.11 or newer; `$(PYTHON)` is not. Name one: make PYTHON=python3.12 …' >&2; exit 1; }
	@echo 'Making the virtual environment $(VENV)'
	@$(PYTHON) -m venv --clear "$(VENV)" || { \
		echo 'Python could not make a virtual environment (on Debian and Ubuntu it needs the package python3-venv).' >&2; \
		rm -rf "$(VENV)"; exit 1; }

$(SERVER): $(BIN)/python
	@echo 'Installing the server into $(VENV) (requirements.lock)'
	@$(PIP) install -qq --require-hashes -r requirements.lock
	@$(PIP) install -qq --no-deps --no-build-isolation --editable .
	@rm -f $(VENV)/.server-*
	@touch $@

$(TOOLS): $(BIN)/python
	@echo 'Installing the server and the tools into $(VENV) (requirements-dev.lock)'
	@$(PIP) install -qq --require-hashes -r requirements-dev.lock
	@$(PIP) install -qq --no-deps --no-build-isolation --editable .
	@rm -f $(VENV)/.server-* $(VENV)/.tools-*
	@touch $(SERVER) $@

$(CLIENTS): $(TOOLS)
	@echo "Installing the clients for JavaScript into $(JS) (package-lock.json)"
	@cd $(JS) && npm ci --loglevel=error
	@touch $@

# Node.js as a Python package, only where the machine has none that is new enough.
$(NODE): $(BIN)/python
	@node -e '$(NODE_IS_NEW)' 2>/dev/null && npm --version >/dev/null 2>&1 || { \
		echo 'Installing Node.js into $(VENV) (requirements-page.lock)'; \
		$(PIP) install -qq --require-hashes -r requirements-page.lock; }
	@rm -f $(VENV)/.node-*
	@touch $@

$(PACKAGES): $(NODE)
	@echo "Installing what the dashboard is built with into $(DASHBOARD) (package-lock.json)"
	@cd $(DASHBOARD) && npm ci --loglevel=error
	@touch $@

$(PAGE): $(PACKAGES)
	@echo 'Building the dashboard'
	@cd $(DASHBOARD) && npm run --silent build -- --logLevel warn
	@touch $@
