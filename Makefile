# A bare machine needs Python >= 3.11 with venv, make and a package index; the rest is made here. A cluster needs
# `apt-get install postgresql redis-server faketime` as well.
#
#   make setup            the virtual environment; every other target makes it as well
#   make demo             a real Airflow and an emulator of the three batch APIs; stays up until Ctrl-C
#   make demo DEMO_EXIT=1 the same, ends after success
#   make test             in a few minutes: everything but the slow, with a real Airflow, and samples of the long sweeps; ARGS are pytest's
#   make stores           only the tests against servers of others: Google Cloud Storage, Azure, a second S3, mocks of OpenAI and
#                         Anthropic
#   make slow             the tests that make test leaves out because they cost much, but for those that kill processes
#   make rest             what `make test` leaves out or samples: the slow, those that kill processes, and every sweep whole
#   make test-all         every test, every sweep whole; CI runs `make test`, `make stores` and `make rest`, which is the same
#   make kills            only the tests that kill, freeze and restart the processes of a real Airflow
#   make cluster          PostgreSQL, Redis, S3, an Airflow of ten processes and the emulator run the example DAGs, until Ctrl-C
#   make cluster-test     every kind of process of such a cluster killed and frozen, every service failing, and crowds; an hour
#   make soak             random faults, kills and clears for SOAK_MINUTES=10, and the books balanced; SEED and ROUND repeat
#   make compat AIRFLOW=3.1.8  the tests with a real Airflow on another one; WITH='cadwyn<8' adds what that one needs
#   make compat-sdk       the tests of the providers on the lowest and the newest SDKs that are allowed
#   make lint             ruff, mypy, import-linter, zizmor
#   make docs             the site of documentation, in .docs/site; fails for a wrong page, docstring or link
#   make screenshots      take the pictures of README and docs; needs Chromium
#   make signals          renew the tables of docs/signals.md
#   make bench            benchmarks
#   make mutate           breaks the code that handles money in every small way and shows what no test notices; goes on
#                         where it was stopped. MODULE=submit: that module alone, afresh
#   make dist             wheel and sdist in dist/, the same bytes each time
#   make sbom             what the wheel brings along, in dist/sbom.cdx.json
#   make audit            known vulnerabilities in what constraints.txt pins; asks a public database
#   make constraints      renew constraints.txt

VENV   ?= .venv
PY     := $(VENV)/bin/python
PIP    := 26.3
# The first Python that is new enough; PYTHON=… chooses another.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
READY  := $(VENV)/.ready
RUNS   := $(PY) -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
ARGS   ?=

.PHONY: setup signals screenshots demo test stores slow rest test-all kills cluster cluster-test compat compat-sdk soak lint bench mutate dist sbom audit constraints clean FORCE
.DELETE_ON_ERROR:

setup: $(READY)

signals: $(READY)
	@$(PY) -m airflow_batch_provider.airflow.signals.page docs/signals.md

demo: $(READY)
	@DEMO_EXIT="$(DEMO_EXIT)" $(PY) -m airflow_batch_provider.demo

# Three processes, because most tests keep one of two processors busy and some wait; the tests of a file stay together, and so do
# those that share an Airflow (tests/support/scheduling.py). Containers like to keep Python from storing what it compiled, and
# then each of the hundred processes of a real Airflow compiles the package again.
unexport PYTHONDONTWRITEBYTECODE
PYTEST := $(PY) -m pytest -n 3 --dist loadfile

# gcsfs needs a newer grpcio than constraints.txt has, so what these tests need lies beside the virtual environment, in front of
# it for them alone. Azurite, the server of Azure's tests, and aimock, which mocks OpenAI, are programs of Node; without npm their
# tests are skipped. llmock, another mock, wants what Airflow has brought along already, in the versions that Airflow takes.
STORES  := $(VENV)/stores
AZURITE := 3.35.0
AIMOCK  := 1.43.0
LLMOCK  := 0.2.2

$(STORES)/.ready: tests/support/stores.txt Makefile $(READY)
	@$(PY) -m pip install --quiet --disable-pip-version-check --upgrade --target $(STORES) -r tests/support/stores.txt
	@$(PY) -m pip install --quiet --disable-pip-version-check --upgrade --target $(STORES) --no-deps llmock==$(LLMOCK)
	@if command -v npm >/dev/null; then npm install --silent --no-audit --no-fund --prefix $(STORES) \
		azurite@$(AZURITE) @copilotkit/aimock@$(AIMOCK); \
	else echo "npm was not found: the tests on Azure and aimock will be skipped"; fi
	@touch $@

test: $(READY)
	$(PYTEST) -m "not kills and not slow" $(ARGS)

stores: $(STORES)/.ready
	PYTHONPATH=$(STORES) PATH="$(abspath $(STORES))/node_modules/.bin:$$PATH" $(PY) -m pytest -rs -k "azure or google_cloud or localbucket or mocks_of_others" \
		tests/test_storage.py tests/operators/test_files_anywhere.py tests/ledger/test_killed_on_any_storage.py \
		tests/providers/test_mocks_of_others.py

slow: $(READY)
	$(PYTEST) -m "slow and not kills and not cluster" $(ARGS)

rest: $(READY) $(VENV)/.cluster
	$(PYTEST) --whole -m "(slow or kills or sweep) and not cluster" $(ARGS)

test-all: $(READY) $(VENV)/.cluster
	$(PYTEST) --whole -m "not cluster" $(ARGS)
	$(if $(ARGS),,@$(MAKE) --no-print-directory stores)

kills: $(READY)
	$(PY) -m pytest -m kills tests/stack $(ARGS)

# CeleryExecutor, which nobody else needs.
$(VENV)/.cluster: $(READY)
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt --group cluster
	@touch $@

cluster: $(VENV)/.cluster
	@CLUSTER_EXIT="$(CLUSTER_EXIT)" PYTHONPATH=tests/support $(PY) tests/support/cluster_by_hand.py

cluster-test: $(VENV)/.cluster
	$(PY) -m pytest -v -s --durations=0 tests/cluster $(ARGS)

# A fixed hash seed lets the same seed play the same round.
soak: $(READY)
	@SEED="$(SEED)" ROUND="$(ROUND)" SOAK_MINUTES="$(SOAK_MINUTES)" PYTHONHASHSEED=0 $(PY) tests/support/soak.py

# Nothing is pinned here but Airflow: what users of that version get. Its own warnings are not ours to fix.
# uv, because pip's search among the versions that an older Airflow allows does not end within ten minutes.
compat:
	@test -n "$(AIRFLOW)" || { echo "Say which: make compat AIRFLOW=3.1.8"; exit 1; }
	@test -x .venv-$(AIRFLOW)/bin/pytest || { $(PYTHON) -m venv --clear .venv-$(AIRFLOW) && \
		.venv-$(AIRFLOW)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv && \
		.venv-$(AIRFLOW)/bin/uv pip install --quiet --python .venv-$(AIRFLOW) apache-airflow==$(AIRFLOW) \
			$(WITH:%='%') -e . --group test; }
	.venv-$(AIRFLOW)/bin/python -m pytest -W default tests/stack/test_example_dags.py tests/stack/test_kills.py $(ARGS)

# The lowest and the newest SDKs that pyproject.toml allows, in an environment of their own; all else as it is pinned.
SDKS := anthropic openai google-genai
LOWEST = $(foreach sdk,$(SDKS),$(shell sed -n 's/^ *"$(sdk)>=\([0-9.]*\).*/$(sdk)==\1/p' pyproject.toml))

compat-sdk:
	@test -x .venv-sdk/bin/uv || { $(PYTHON) -m venv --clear .venv-sdk && \
		.venv-sdk/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv; }
	@grep -vE '^($(subst $() ,|,$(SDKS)))==' constraints.txt > .venv-sdk/constraints.txt
	@for sdks in "$(LOWEST)" "$(SDKS:%=--upgrade-package %)"; do \
		.venv-sdk/bin/uv pip install --quiet --python .venv-sdk -c .venv-sdk/constraints.txt $$sdks -e . --group test && \
		.venv-sdk/bin/uv pip list --python .venv-sdk | grep -E '^($(subst $() ,|,$(SDKS))) ' && \
		.venv-sdk/bin/python -m pytest -W default tests/providers tests/client $(ARGS) || exit 1; done

lint: $(READY)
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy
	$(VENV)/bin/lint-imports
	$(VENV)/bin/zizmor --offline --pedantic --quiet --no-progress .

docs: $(READY)
	$(PY) docs/builder/build_site.py

screenshots: $(READY)
	$(PY) tests/support/pictures.py

# What the benchmarks measure beside the package, in an environment of its own. uv, for the same reason as above.
PEERS := .venv-peers

$(PEERS)/.ready: benchmarks/peers/requirements.txt
	@$(PYTHON) -m venv --clear $(PEERS) && $(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	@$(PEERS)/bin/uv pip install --quiet --python $(PEERS) -r $<
	@touch $@

bench: $(READY) $(PEERS)/.ready
	@for bench in $(sort $(wildcard benchmarks/bench_*.py)); do echo "== $$bench"; $(PY) $$bench || exit 1; done

# A virtual environment that no longer runs, or is too old, is made again; one that is merely behind is brought up to date.
$(READY): pyproject.toml constraints.txt $(shell $(RUNS) || echo FORCE)
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer was not found. Install it, or name it: make PYTHON=…"; exit 1; }
	@$(RUNS) || { echo "making $(VENV) (about a minute)"; $(PYTHON) -m venv --clear $(VENV); }
	@$(PY) -m pip install --quiet --disable-pip-version-check 'pip==$(PIP)'
	@$(PY) -m pip install --quiet --disable-pip-version-check --compile -c constraints.txt -e . --group test --group lint --group docs
	@touch $@

# A group of its own: nobody else needs it. mutmut calls mypy by name, so it is found in the virtual environment first.
MUTMUT := PATH="$(abspath $(VENV))/bin:$$PATH" mutmut
MODULE ?=

$(VENV)/.mutate: $(READY)
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt --group mutate
	@touch $@

mutate: $(VENV)/.mutate
	@rm -rf mutants/tests
	@$(MUTMUT) run $(if $(MODULE),"airflow_batch_provider.*.$(MODULE).x*")
	@$(MUTMUT) results | grep -E '\.$(or $(MODULE),[a-z]+)\.x.*: (survived|no tests|suspicious|segfault)' | cut -d: -f1 \
		| while read -r mutant; do echo; $(MUTMUT) show "$$mutant"; done
	@echo; $(MUTMUT) results --all true | grep -v 'not checked' \
		| sed -E 's/^ *airflow_batch_provider\.//; s/\.x[^:]+:/:/' | sort | uniq -c

# A build is dated by its commit, so that whoever builds that commit gets the same bytes.
dist: $(READY)
	@rm -rf dist
	@SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(PY) -m build --no-isolation --outdir dist
	@cd dist && sha256sum *

$(VENV)/.release: $(READY)
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt --group release
	@touch $@

# An environment of its own, because the bill names all that is installed.
sbom: dist $(VENV)/.release
	@rm -rf .venv-sbom && $(PYTHON) -m venv --without-pip .venv-sbom
	@$(PY) -m pip --python .venv-sbom/bin/python install --quiet --disable-pip-version-check -c constraints.txt dist/*.whl
	@$(VENV)/bin/cyclonedx-py environment --output-reproducible --of JSON -o dist/sbom.cdx.json .venv-sbom/bin/python
	@rm -rf .venv-sbom

# A public database is asked. Strict, because an index that cannot answer for a distribution is otherwise taken for a good
# word: where the database is not reached, nothing was audited, and this fails.
audit: $(VENV)/.release
	@$(VENV)/bin/pip-audit --strict --disable-pip --no-deps --requirement constraints.txt --progress-spinner off

# uv resolves for all supported Pythons at once.
constraints: $(VENV)/.release
	@head -2 constraints.txt > $(VENV)/constraints.txt
	@echo '-e .[parquet,pandas,s3,openlineage]' | $(VENV)/bin/uv pip compile - --universal --python-version 3.11 --upgrade \
		--group test --group lint --group docs --group mutate --group cluster --group release \
		--no-emit-package airflow-batch-provider --no-emit-package pip \
		--no-annotate --no-header --no-emit-index-url --quiet >> $(VENV)/constraints.txt
	@cp $(VENV)/constraints.txt constraints.txt

clean:
	rm -rf $(VENV) mutants dist .demo .docs .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage
