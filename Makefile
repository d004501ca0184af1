# From a fresh clone `make demo` and `make test` do all the set-up by themselves.
SHELL := /bin/bash
BIN := .venv/bin
# Where Python may keep no compiled modules, each of the tests' hundreds of starts of an Airflow compiles its own.
unexport PYTHONDONTWRITEBYTECODE
COMPLETE := .venv/.complete
LOCK := uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-emit-index-url \
	--custom-compile-command "make lock"

# The compose program of this machine, if there is one.
COMPOSE = $(shell if docker compose version >/dev/null 2>&1; then echo docker compose; \
	else command -v docker-compose; fi)

.PHONY: venv lint types format test test-matrix test-kubernetes demo demo-stop build lock clean

venv: $(COMPLETE)

$(COMPLETE): requirements/dev.txt requirements/uv.txt requirements/install pyproject.toml
	@echo "Installing into .venv"
	@requirements/install

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(if $(COMPOSE),$(COMPOSE) --file docker-compose.yaml config --quiet,@echo "No docker compose: docker-compose.yaml is read by the tests only")

types: venv
	$(BIN)/mypy

format: venv
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# make test ARGS="tests/unit -k hops"
test: venv
	@requirements/debian pgbouncer chromium >/dev/null 2>&1
	@$(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 --no-loadscope-reorder $(ARGS)

# Migrates a database of every release line and writes docs/matrix.md; eight minutes on two idle cores
test-matrix: venv
	@$(BIN)/python -m pytest tests/matrix $(ARGS)

# The tests of every call to a Kubernetes API, against a real cluster: make test-kubernetes KUBECONFIG=… NAMESPACE=…
# The namespace must exist; KUBECONFIG is its administrator's. Without KUBECONFIG against the tests' own server.
test-kubernetes: venv
	@env -u KUBECONFIG $(BIN)/python -m pytest tests/kubernetes $(if $(KUBECONFIG),--kubeconfig "$(KUBECONFIG)") \
		$(if $(NAMESPACE),--namespace "$(NAMESPACE)") $(ARGS)

# make demo KEEP=1 leaves everything running
demo: venv
	@PYTHONPATH=include $(BIN)/python -m demo $(if $(KEEP),--keep)

demo-stop: venv
	@PYTHONPATH=include $(BIN)/python -m demo --stop

build: venv
	rm -rf dist
	$(BIN)/uv build --quiet --no-build-isolation --python $(BIN)/python --out-dir dist

# Pins the newest versions; an upgrade of one: make lock LOCK_ARGS="--upgrade-package ruff"
lock: venv
	$(BIN)/$(LOCK) $(LOCK_ARGS) --output-file requirements/uv.txt requirements/uv.in
	$(BIN)/$(LOCK) $(LOCK_ARGS) --output-file requirements/dev.txt pyproject.toml requirements/dev.in

clean:
	if [ -d build/demo ] && [ -e $(COMPLETE) ]; then $(MAKE) --no-print-directory demo-stop; fi
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
