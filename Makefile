# BucketFS. `make run` and `make test` install what is missing (Debian packages, Rust components) and
# need nothing else than Rust; the other targets are listed by `make help`.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.SILENT:
.DEFAULT_GOAL := help
.PHONY: help run run-cluster test test-long bench build lint deny unit-file install-run install-test

# Where `make run` keeps its store and shows it.
DATA ?= $(CURDIR)/data
MNT ?= $(CURDIR)/mnt
CARGO ?= cargo
# The S3 endpoint's library declares a newer Rust than it needs.
WITH_S3 := --features s3 --ignore-rust-version
TARGET := $(or $(CARGO_TARGET_DIR),target)

# Pairs of a program or a file and its package, which is installed when that is not found.
RUN_TOOLS := cc:gcc /usr/include/stdio.h:libc6-dev fusermount3:fuse3
TEST_TOOLS := $(RUN_TOOLS) mount:mount mkfs.ext4:e2fsprogs rsync:rsync getfattr:attr getfacl:acl \
	systemd-analyze:systemd rclone:rclone restic:restic s3cmd:s3cmd s3fs:s3fs virtualenv:virtualenv python3:python3 \
	node:nodejs npm:npm nginx:nginx-light fio:fio

# The suites mount, so they run as root; they keep their mounts to themselves.
ifneq ($(shell id -u),0)
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER := sudo -E
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER := sudo -E
endif

# $(call install,PAIRS): installs the packages of the programs that are missing.
define install
missing=; PATH="$$PATH:/usr/sbin:/sbin"
for pair in $(1); do
  [ -e "$${pair%%:*}" ] || command -v "$${pair%%:*}" >/dev/null || missing="$$missing $${pair##*:}"
done
if [ -n "$$missing" ]; then
  command -v apt-get >/dev/null || { echo "please install:$$missing" >&2; exit 1; }
  sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo
  echo "installing$$missing"
  $$sudo apt-get update -qq
  DEBIAN_FRONTEND=noninteractive $$sudo apt-get install -y -qq --no-install-recommends $$missing >/dev/null
fi
if [ ! -e /dev/fuse ]; then modprobe fuse || mknod -m 666 /dev/fuse c 10 229 || true; fi 2>/dev/null
command -v $(CARGO) >/dev/null || { echo "please install Rust: https://rustup.rs" >&2; exit 1; }
endef

help:
	echo "make run        build, make a store in ./data on first use, mount it at ./mnt"
	echo "make run-cluster  three nodes on this machine, with three mounts and three S3 endpoints"
	echo "make test       everything that must hold before a change lands (25 minutes on two cores)"
	echo "make test-long  the full tables behind make test (hours)"
	echo "make bench      compare with a plain directory; writes docs/performance.md"

install-run:
	$(call install,$(RUN_TOOLS))

install-test:
	$(call install,$(TEST_TOOLS))
	$(CARGO) fmt --version >/dev/null 2>&1 || rustup component add rustfmt
	$(CARGO) clippy --version >/dev/null 2>&1 || rustup component add clippy
	$(CARGO) deny --version >/dev/null 2>&1 || $(CARGO) install cargo-deny --locked --debug

build: install-run
	$(CARGO) build --release --locked --workspace $(WITH_S3)

run: build
	# After a crash it is still mounted and answers nothing: the program sees to that.
	mkdir -p "$(MNT)" 2>/dev/null || true
	program="$(TARGET)/release/bucketfs"
	[ -e "$(DATA)/node.json" ] || "$$program" init --data-dir "$(DATA)"
	echo "Mounting at $(MNT): make a bucket with 'mkdir $(MNT)/my-bucket', then use it as any directory."
	echo "Ctrl-C writes everything to disk, unmounts and ends; 'make run' brings it back."
	# Somebody else may have the usual port.
	s3=(--s3-listen 127.0.0.1:9000)
	if (exec 3<>/dev/tcp/127.0.0.1/9000) 2>/dev/null; then s3=(); fi
	exec "$$program" serve --data-dir "$(DATA)" --mount "$(MNT)" "$${s3[@]}"

# Three nodes in ./data-cluster, mounted at ./mnt-1 to ./mnt-3; Ctrl-C stops all of them.
CLUSTER ?= $(CURDIR)/data-cluster
run-cluster: build
	program="$(TARGET)/release/bucketfs"
	nodes=()
	trap 'trap - EXIT INT TERM; kill "$${nodes[@]}" 2>/dev/null || true; wait' EXIT INT TERM
	mkdir -p "$(CLUSTER)"
	[ -e "$(CLUSTER)/1/node.json" ] || "$$program" init --cluster --data-dir "$(CLUSTER)/1"
	for n in 1 2 3; do
	  mkdir -p "$(MNT)-$$n" 2>/dev/null || true
	  join=()
	  if [ ! -e "$(CLUSTER)/$$n/node.json" ]; then
	    join=(--join "$$("$$program" cluster invite --data-dir "$(CLUSTER)/1")")
	  fi
	  "$$program" serve --data-dir "$(CLUSTER)/$$n" --mount "$(MNT)-$$n" --peers-listen "127.0.0.$$n:9100" \
	    --s3-listen "127.0.0.$$n:9000" "$${join[@]}" &
	  nodes+=("$$!")
	  # A new cluster is founded by its first node; an old one needs most of its nodes to be ready.
	  if [ "$${#join[@]}" -gt 0 ] || [ "$$n" = 1 ] && [ ! -e "$(CLUSTER)/2/node.json" ]; then
	    until "$$program" cluster status --data-dir "$(CLUSTER)/$$n" >/dev/null 2>&1; do
	      kill -0 "$${nodes[-1]}" || exit 1
	      sleep 0.2
	    done
	  fi
	done
	echo "Write in $(MNT)-1 and read in $(MNT)-2 and $(MNT)-3: mkdir $(MNT)-1/my-bucket"
	echo "S3 is at http://127.0.0.1:9000, http://127.0.0.2:9000 and http://127.0.0.3:9000"
	echo "Look: $$program cluster status --data-dir $(CLUSTER)/1; kill one of $${nodes[*]} and go on"
	wait

lint: install-test
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked $(WITH_S3) -- -D warnings

# Advisories need GitHub, so they are checked where it can be reached: cargo deny check advisories.
deny: install-test
	$(CARGO) deny --locked check bans licenses sources

# The unit names the installed program; one that was built, by the tests too, stands in for it.
unit-file: install-test
	program="$(TARGET)/debug/bucketfs"
	[ -x "$$program" ] || $(CARGO) build --locked $(WITH_S3)
	unit=$$(mktemp -d)
	trap 'rm -r "$$unit"' EXIT
	sed "s|/usr/local/bin/bucketfs|$$(realpath "$$program")|" systemd/bucketfs.service >"$$unit/bucketfs.service"
	said=$$(systemd-analyze verify --man=no "$$unit/bucketfs.service" 2>&1) || { echo "$$said" >&2; exit 1; }
	[ -z "$$said" ] || { echo "$$said" >&2; exit 1; }

# Tests of the library wait more than they work.
test: lint deny
	$(CARGO) test --workspace --lib --locked $(WITH_S3) -- --test-threads $$((2 * $$(nproc)))
	$(CARGO) test --workspace --bins --test '*' --locked $(WITH_S3)
	$(CARGO) test --workspace --doc --locked $(WITH_S3)
	$(MAKE) unit-file

# The full tables: numbers of rounds, seeds and operations as docs/testing.md has them.
test-long: lint deny
	export BUCKETFS_LONG=1 BUCKETFS_FSX_SEEDS=8 BUCKETFS_FSX_OPERATIONS=20000 BUCKETFS_ROUNDS=500
	export BUCKETFS_SEEDS=20 BUCKETFS_OPERATIONS=20000 BUCKETFS_CLUSTER_ROUNDS=10000
	export BUCKETFS_CLUSTER_REQUESTS=600 BUCKETFS_CLUSTER_KILLS=30
	export BUCKETFS_PARTITIONS=60 BUCKETFS_HISTORIES=200 BUCKETFS_AWAY=600
	export BUCKETFS_FAILOVERS=1000 BUCKETFS_SIMULATIONS=1000 BUCKETFS_SIMULATED_MS=30000 BUCKETFS_MUTANTS=1
	$(CARGO) test --release --workspace --locked $(WITH_S3)
	$(MAKE) unit-file

# GROUPS="sequential random" measures these alone and prints them.
bench: install-test
	$(CARGO) bench $(WITH_S3) --locked --bench compare -- $(GROUPS) $(if $(GROUPS),,--output $(CURDIR)/docs/performance.md)
	$(if $(GROUPS),,$(CARGO) bench $(WITH_S3) --locked --bench s3 -- --output $(CURDIR)/docs/performance.md)
