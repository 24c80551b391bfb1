# make figures | site | course | test | lab | explore | explore-static
# (each first installs everything into .venv, if needed)
# make unit | lint | benchmarks            (unit: tests that start no programs, 2 to 3 minutes)

PYTHON ?= python3
BIN := .venv/bin
PYTEST = SEQPE_SCALE=smoke OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile

# Keep freed memory for the next training step instead of returning it to the system (Linux, glibc:
# mallopt(3)). A step of a small model frees and allocates the same tensors thousands of times; this
# avoids most page faults and saves about 4 % of the processor time of `train lm --scale small`.
# Tensors above 32 MiB are still returned at once, as is all free memory above 256 MiB.
ifeq ($(shell uname),Linux)
figures site course test unit lab explore: export MALLOC_MMAP_THRESHOLD_ = 33554432
figures site course test unit lab explore: export MALLOC_TRIM_THRESHOLD_ = 268435456
endif

.PHONY: figures site course test unit lab explore explore-static setup browser lint benchmarks \
	clean

figures: setup
	@$(BIN)/python -m seqpe_lab figures

site: setup
	@$(BIN)/python -m seqpe_lab site

course: setup
	@$(BIN)/python -m seqpe_lab course

test: setup
	@echo "Testing: the library, then every lesson at smoke scale (4 to 8 minutes on 2 cores)"
	@$(PYTEST) --nbval-lax --nbval-current-env --nbval-cell-timeout=300 seqpe_lab tests notebooks

unit: setup
	@$(PYTEST) --ignore=tests/system seqpe_lab tests

# JupyterLab asks at its first start whether to show news. This switches the question off, in .venv
# only (the option news_url would not).
NEWS = apputils-extension:announcements
lab: setup
	@grep -qs $(NEWS) .venv/etc/jupyter/labconfig/page_config.json || \
		$(BIN)/jupyter labextension disable --level=sys_prefix @jupyterlab/$(NEWS) 2>/dev/null || true
	@$(BIN)/jupyter lab notebooks/00_start_here.ipynb

# Voila runs the notebook and serves its outputs without the code; the page's template is
# notebooks/voila/templates/offline.
explore: setup
	@echo "Opening the explorers as a web page, for this machine only (10 to 20 s; Ctrl-C ends it)"
	@JUPYTER_PATH="$(CURDIR)/notebooks$${JUPYTER_PATH:+:$$JUPYTER_PATH}" $(BIN)/voila \
		notebooks/explorers.ipynb --template=offline --Voila.ip=127.0.0.1 --token

explore-static: setup
	@$(BIN)/python -m seqpe_lab explorers

setup: .venv/installed browser

.venv/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("seqpe_lab needs Python 3.11 \
	or newer, this is " + sys.version + ": make PYTHON=python3.12")'
	@echo "Installing into .venv: torch, JupyterLab and what they need (2 to 6 minutes, about 6 GB)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --upgrade pip
	@$(BIN)/python -m pip install --quiet --editable '.[lab,test]'
	@touch $@

# Static images need a browser. If none is found, chromium is installed where that takes no
# password; without a browser, figures are web pages only.
APT = DEBIAN_FRONTEND=noninteractive apt-get -qq
browser:
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || \
	command -v chromium-browser >/dev/null || \
	{ [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	  echo "Installing a browser for static images (about 1 minute)" && $(APT) update >/dev/null && \
	  $(APT) install -y --no-install-recommends chromium fonts-dejavu-core >/dev/null; } || \
	echo "No browser found: figures will be pages without static images (install chromium for those)"

lint: setup
	@$(BIN)/ruff check . && $(BIN)/ruff format --check tests benchmarks
	@$(BIN)/nbstripout --verify --keep-id notebooks/*.ipynb

benchmarks: setup
	@for name in encoder training_step long_context vision generation; do \
		$(BIN)/python -m benchmarks.$$name || exit 1; done

clean:
	rm -rf .venv course explorers figures reproduced runs slides
