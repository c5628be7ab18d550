# Each target prepares what it needs. `make demo` and `make test` work on a fresh Debian machine, as root.
.PHONY: this-release other-releases demo cluster simulation fuzz crash crash-points chaos test lint unit store agent conformance kernel power nodes runtimes kubernetes without-kubernetes lab fresh newer newer-etcd image build bench bench-quick lock clean
.ONESHELL:
.SHELLFLAGS := -euo pipefail -c
SHELL := /bin/bash

PY := .venv/bin/python
STAMP := .venv/.installed

$(STAMP): requirements.lock pyproject.toml tools/bootstrap
	@tools/bootstrap

demo: $(STAMP)
	@$(PY) -m tests.lab -- python3 -m tests.demo

lint: $(STAMP)
	@echo "== lint and types"
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

unit: $(STAMP)
	@echo "== unit tests"
	$(PY) -m pytest -q $(or $(ARGS),tests/unit)

store: $(STAMP)
	@echo "== the lease store, with real processes"
	$(PY) -m tests.lab.tools strace host-local
	$(PY) -m pytest -q $(or $(ARGS),-n 2 tests/store)

kernel: $(STAMP) dist/launcher
	@$(PY) -m tests.lab --side-by-side --by-mark -- python3 -m pytest -q -p no:cacheprovider $(or $(ARGS),-n 2 --dist worksteal tests/kernel)

runtimes: $(STAMP) build image
	@$(PY) -m tests.lab --mode node -- python3 -m pytest -q -p no:cacheprovider $(or $(ARGS),tests/e2e/runtimes)

nodes: $(STAMP) build
	@echo "== a node that starts again, and two on a trunk"
	$(PY) -m pytest -q $(or $(ARGS),tests/e2e/nodes)

power: $(STAMP)
	@echo "== loss of power"
	$(PY) -m pytest -q $(or $(ARGS),tests/power)

# The next release of Debian, where the build works too: a bundle needs the C library that it was built with, or a later one.
NEWER := $(if $(shell grep -s '^VERSION_CODENAME=bookworm' /etc/os-release),trixie)

# A directory with the programs of Kubernetes (docs/kubernetes.md); by default the one beside the checkout, if there is one.
KUBERNETES ?= $(wildcard ../shared/kubernetes)

kubernetes: $(STAMP) build image
	@echo "== Kubernetes"
	KUBERNETES=$(KUBERNETES) $(PY) -m tests.e2e.kubernetes $(or $(ARGS),tests/e2e/kubernetes)

without-kubernetes:
	@echo "== Kubernetes is left out: KUBERNETES names no directory with its programs (docs/kubernetes.md)"

lab: $(STAMP) dist/launcher
	@echo "== the lab itself: boots that fail, native mode"
	LAB_SUITE=$(or $(LAB_SUITE),$(NEWER)) $(PY) -m pytest -q $(or $(ARGS),tests/lab)

fresh: $(STAMP)
	@echo "== the first hour in minimal roots of Debian 12 and 13"
	$(PY) -m pytest -q -s $(or $(ARGS),tests/fresh)

newer:
ifneq ($(NEWER),)
	@echo "== runtimes and FRR of Debian $(NEWER)"
	@$(MAKE) --no-print-directory LAB_SUITE=$(NEWER) ARGS="$(or $(ARGS),tests/kernel/test_frr.py tests/e2e/runtimes)" runtimes
	@$(if $(ARGS),,$(MAKE) --no-print-directory newer-etcd)
endif

newer-etcd: $(STAMP)
	@echo "== etcd of Debian $(NEWER)"
	PATH="$$($(PY) -m tests.cluster.releases $(NEWER)):$$PATH" KUBERNETES= $(PY) -m pytest -q tests/cluster/test_engine.py tests/cluster/test_etcd.py tests/cluster/test_restored.py

dist/launched: dist/launcher
	@mkdir -p $@
	@ln -f dist/launcher $@/cni-vlan
	@ln -f dist/launcher $@/cni-ipam
	@touch $@

SUBJECTS := $(foreach name,agent one-shot reference,conformance/subjects/$(name).toml)

conformance: $(STAMP) dist/bundle/launcher dist/launched dist/libcni
	@echo "== the CNI specification, and libcni"
	@$(PY) -m tests.lab.tools host-local
	@$(PY) -m conformance $(or $(ARGS),$(SUBJECTS))
	@$(if $(ARGS),,cp dist/conformance/report.md docs/conformance.md)
	$(PY) -m pytest -q conformance/libcni

cluster: $(STAMP)
	@echo "== one pool, many nodes"
	@$(PY) -m tests.lab.tools etcd openssl ping musl-gcc
	KUBERNETES=$(KUBERNETES) $(PY) -m pytest -q $(or $(ARGS),-n 2 --dist loadfile tests/cluster)

# make simulation NODES=50 OPERATIONS=100000 SEED=7
simulation: $(STAMP)
	@$(PY) -m tests.lab.tools etcd
	$(PY) -m tests.cluster.simulation --nodes $(or $(NODES),50) --operations $(or $(OPERATIONS),100000) $(if $(SEED),--seed $(SEED))

# An emulated node uses one processor, so two lines of suites run side by side, after the build that they share.
test: lint unit store cluster fuzz crash agent conformance $(if $(KUBERNETES),,without-)kubernetes kernel chaos
	@$(MAKE) --no-print-directory --jobs 2 this-release other-releases

this-release:
	@for target in runtimes nodes power fresh; do
	  $(MAKE) --no-print-directory $$target </dev/null 2>&1 | sed --unbuffered 's/^/| /'
	done

other-releases:
	@for target in newer lab; do
	  $(MAKE) --no-print-directory $$target </dev/null 2>&1 | sed --unbuffered 's/^/|| /'
	done

PIN := .venv/bin/pip-compile --quiet --strip-extras --generate-hashes --allow-unsafe --no-emit-index-url \
  --no-emit-find-links

lock: $(STAMP)
	@$(PIN) --extra dev --output-file requirements.lock pyproject.toml
	@$(PIN) --constraint requirements.lock --output-file requirements-run.lock pyproject.toml
	@$(PIN) --extra bench --constraint requirements.lock --output-file requirements-bench.lock pyproject.toml

# The bundle is one program under three names, and the launcher that is installed under two of them.
build: $(STAMP) dist/SHA256SUMS

# The archive has the time of the commit.
dist/SHA256SUMS: README.md CHANGELOG.md LICENSE $(wildcard .git/logs/HEAD)
dist/SHA256SUMS: dist/bundle/cni-agent dist/bundle/launcher dist/launcher-arm64 tools/package $(shell find manifests -type f) requirements-run.lock
	@echo "== packing it"
	@tools/package

image: $(STAMP) dist/.image

dist/.image: dist/bundle/launcher manifests/Containerfile tools/image
	@$(PY) -m tests.lab.tools buildah mmdebstrap
	@echo "== building the image"
	@tools/image
	@touch $@

dist/libcni: conformance/libcni/main.go
	@$(PY) -m tests.lab.tools go
	@mkdir -p dist
	@GO111MODULE=off GOPATH=/usr/share/gocode GOFLAGS=-trimpath CGO_ENABLED=0 go build -o $@ ./conformance/libcni

dist/bundle/cni-agent: build.spec launcher/bundle.py $(wildcard cni_*/*.py) requirements.lock | $(STAMP)
	@$(PY) -m tests.lab.tools objdump libpython
	@echo "== building the bundle"
	@.venv/bin/pyinstaller --noconfirm --log-level ERROR --distpath dist --workpath build build.spec
	@ln -f dist/bundle/cni-vlan dist/bundle/cni-ipam
	@ln -f dist/bundle/cni-vlan dist/bundle/cni-agent

dist/bundle/launcher: dist/bundle/cni-agent dist/launcher
	@ln -f dist/launcher $@
	@touch $@

dist/launcher: launcher/launcher.c launcher/Makefile | $(STAMP)
	@$(PY) -m tests.lab.tools musl-gcc
	@$(MAKE) --quiet -C launcher OUT=../$@

dist/launcher-arm64: launcher/launcher.c launcher/build-arm64
	@echo "== building the launcher for arm64"
	@launcher/build-arm64 $@

# FUZZ=100000 make fuzz runs longer.
fuzz: $(STAMP)
	@echo "== fuzzing: configurations, environments, results, files"
	@$(PY) -m tests.lab.tools ip unshare
	unshare --net --mount $(PY) -m pytest -q -p no:cacheprovider $(or $(ARGS),tests/fuzz)

crash: $(STAMP) dist/launcher
	@echo "== killed before every system call that changes something"
	@$(PY) -m tests.lab.tools strace musl-gcc ip
	$(PY) -m pytest -q $(or $(ARGS),-n 2 --dist worksteal tests/crash)

# The tables of docs/crash-points.md, made anew: of macvlan on this machine, of parents that are made on two nodes.
crash-points: $(STAMP)
	@rm -rf dist/crash-points
	@$(MAKE) --no-print-directory crash ARGS='-n 2 --dist worksteal tests/crash/test_points.py -k nothing_is_left'
	@$(MAKE) --no-print-directory --jobs 2 crash-points-of-agent crash-points-of-one-shot
	@$(PY) -m tests.crash.table >docs/crash-points.md

crash-points-of-%:
	@$(PY) -m tests.lab -- bash -c \
	  'CRASH_POINTS=full python3 -m pytest -q -s -p no:cacheprovider tests/kernel/test_crash_points.py -k $* >&2 && cat dist/crash-points/*-on-*.md' \
	  | sed -n '/^## /,$$p' >dist/crash-points/node-$*.md

# make chaos SECONDS=600 SEED=7 runs longer; a seed repeats its sequence.
chaos: $(STAMP) dist/launcher
	@echo "== chaos"
	@$(PY) -m tests.lab --mode node --side-by-side -- python3 -m tests.chaos --seconds $(or $(SECONDS),60) $(if $(SEED),--seed $(SEED))

agent: $(STAMP) build
	@echo "== launcher and agent"
	@$(PY) -m tests.lab.tools musl-gcc systemd-analyze
	$(PY) -m pytest -q $(or $(ARGS),-n 2 --dist loadfile tests/agent)

dist/floor: tests/bench/floor.c | $(STAMP)
	@$(PY) -m tests.lab.tools musl-gcc
	@mkdir -p dist
	@musl-gcc -static -O2 -Wall -Wextra -idirafter /usr/include -idirafter /usr/include/$(shell uname -m)-linux-gnu -o $@ $<

# make bench BASE=DIR compares this build with that of another checkout, in turns, and does nothing else.
bench bench-quick: $(STAMP) dist/bundle/launcher dist/floor
	@$(PY) -m tests.lab.tools host-local
	.venv/bin/pip install --quiet --require-hashes --requirement requirements-bench.lock
	$(PY) -m tests.bench $(if $(filter bench-quick,$@),--quick) $(if $(BASE),--beside $(BASE))

clean:
	rm -rf .venv build dist *.egg-info
