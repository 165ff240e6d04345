# Two commands do all the set-up: `make demo` runs the main job, `make test` passes the tests.
# Set-up happens once, in .venv; with `uv` on the machine it is used, otherwise pip.

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: demo test test-compiled lint bench bars consistency fleet conformance reliability docs screenshots clean

demo: $(VENV)/.ready-demo
	$(BIN)/onetrip demo $(ARGS)

test: $(VENV)/.ready-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest $(ARGS)

# The same tests of the request path, on the modules that `ONETRIP_COMPILE=1 pip install .` compiles.
test-compiled: $(VENV)/.ready-test
	rm -rf build/compiled
	$(BIN)/python hatch_build.py build/compiled
	PYTHONPATH=build/compiled $(BIN)/pytest tests/unit/proxy tests/unit/wire tests/unit/place \
		tests/property tests/integration/proxy $(ARGS)

bench: $(VENV)/.ready-test
	$(BIN)/python tests/benchmark/bench_score.py
	$(BIN)/python tests/benchmark/bench_http1_parser.py
	rm -rf build/compiled; $(BIN)/python hatch_build.py build/compiled >/dev/null 2>&1 || rm -rf build/compiled
	$(BIN)/python tests/benchmark/bench_proxy.py
	$(BIN)/python tests/benchmark/bench_relay.py
	$(BIN)/python tests/benchmark/bench_idle.py
	$(BIN)/python tests/benchmark/bench_workers.py
	$(BIN)/python tests/benchmark/bench_envoy.py

# The placement bars over every matrix and trace: about half an hour on two cores.
bars: $(VENV)/.ready-test
	$(BIN)/python scripts/replica_bars.py
	$(BIN)/python scripts/bars.py $(ARGS)

# What sessions promise, against a checker: about ten minutes; writes its table into the docs.
consistency: $(VENV)/.ready-test
	$(BIN)/python scripts/consistency.py $(ARGS)

# A cluster of 30 real nodes on this machine: about ten minutes on two cores.
fleet: $(VENV)/.ready-test
	$(BIN)/python scripts/fleet.py $(ARGS)

# Suites that are not on the machine are skipped; CONTRIBUTING.md says how they are found.
conformance: $(VENV)/.ready-test
	$(BIN)/python scripts/conformance.py

# Faults made for real in network namespaces: about six minutes. Linux, root or user namespaces.
reliability: $(VENV)/.ready-test
	$(BIN)/python scripts/reliability.py docs/reliability.md

docs: $(VENV)/.ready-test
	$(BIN)/python scripts/metrics_page.py > docs/metrics.md
	$(BIN)/python scripts/grafana.py > grafana/onetrip.json
	$(BIN)/python scripts/grafana_relay.py > grafana/onetrip-relay.json
	$(BIN)/python scripts/openapi.py
	$(BIN)/python scripts/events_page.py > docs/events.md
	$(BIN)/python scripts/cli_page.py > docs/cli.md

# The README's pictures of the dashboard, from a demo that runs for them; needs Chromium.
screenshots: $(VENV)/.ready-test
	$(BIN)/python scripts/screenshots.py

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "onetrip needs Python 3.11 or newer with venv (Debian: apt install python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.ready-%: pyproject.toml | $(VENV)/bin/python
	if command -v uv >/dev/null 2>&1; then uv pip install -q --python $(BIN)/python -e '.[$*]'; \
	else $(BIN)/python -m pip install -q -e '.[$*]'; fi
	touch $@

clean:
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
