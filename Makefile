# Berth. The two commands: `make up` and `make test`.

VERSION  := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
DATA_DIR ?= /var/lib/berth
LISTEN   ?= 127.0.0.1:4566
SHOP_PORT ?= 8080
EMBEDDED := internal/node/embedded/bin
LDFLAGS  := -s -w -X main.version=$(VERSION)
CONSOLE  := internal/console
SHOP     := storefront auth inventory payment
BERTH    := bin/berth --data-dir $(DATA_DIR)
# The version is given by LDFLAGS; Go's own stamp fails in a checkout that belongs to another user.
export GOFLAGS += -buildvcs=false
# Packages in which goroutines meet.
RACE     := $(addsuffix /...,$(addprefix ./internal/,store api/wire console peer registrar relay join forward vpc beat life nodelink control places gate node/recovery node/keeper node/upstream node/agent/logdriver \
            node/agent/metadata node/agent/outlet serve/proxy serve/edge serve/logstore serve/registry \
            serve/dns serve/events serve/handout serve/keys serve/metrics serve/outbox serve/session execstream node/shell node/vitals)) ./internal/node/agent

.PHONY: up down build shop test race integration fleet fleet-down test-cgroup2 test-firewalls soak bench bench-fleet dist lint clean deps

## up: install what is missing, build, start Berth, deploy the example shop, say where to look.
up: build shop
	@DATA_DIR=$(DATA_DIR) LISTEN=$(LISTEN) SHOP_PORT=$(SHOP_PORT) ./examples/shop/up

## down: stop Berth and everything it runs; the data stays.
down:
	$(BERTH) down

## build: bin/berth, with runc and the shim inside.
build: bin/berth

.PHONY: bin/berth
bin/berth: $(EMBEDDED)/runc $(EMBEDDED)/containerd-shim-runc-v2 console
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o $@ ./cmd/berth

## console: the web console's scripts and styles, of internal/console/web. npm ci runs once per lockfile.
.PHONY: console
console: $(CONSOLE)/dist/.made
$(CONSOLE)/dist/.made: $(CONSOLE)/web/build $(wildcard $(CONSOLE)/web/*.json $(CONSOLE)/web/src/*) | deps
	@if $(CONSOLE)/web/build; then touch $@; else echo "the console cannot be built (npm ci needs the npm registry); Berth is built without it, and /console says so" >&2; fi

# runc needs cgo and libseccomp; it is linked statically so that it runs on any distribution.
$(EMBEDDED)/runc: go.mod | deps
	CGO_ENABLED=1 go build -trimpath -tags 'seccomp netgo osusergo urfave_cli_no_docs' \
	  -ldflags '-s -w -extldflags -static -X main.version=1.5.2' -o $@ github.com/opencontainers/runc

$(EMBEDDED)/containerd-shim-runc-v2: go.mod $(wildcard cmd/berth-shim/*.go) $(wildcard internal/node/recovery/note/*.go internal/timeouts/*.go internal/node/agent/outlet/*.go internal/node/agent/outlet/bound/*.go internal/node/cgroup/*.go)
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o $@ ./cmd/berth-shim

## shop: the example's programs, linked statically.
shop: $(SHOP:%=bin/shop/%) bin/shop-deploy
bin/shop/%: FORCE
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o $@ ./examples/shop/$*
bin/shop-deploy: FORCE
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o $@ ./examples/shop/deploy
FORCE:

## deps: the Debian packages that building runc and testing need. Installed only when they are missing.
deps:
	@command -v go >/dev/null || { echo "Go 1.26 is needed: https://go.dev/dl" >&2; exit 1; }
	@pkg-config --exists libseccomp 2>/dev/null && command -v gcc >/dev/null && test -x /bin/busybox || { \
	  echo "installing gcc, libseccomp-dev, pkg-config, busybox-static"; \
	  apt-get update -qq || echo "apt-get update failed for some sources; going on" >&2; \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
	    gcc libc6-dev libseccomp-dev pkg-config busybox-static ca-certificates >/dev/null; }

	@command -v npm >/dev/null || { echo "installing nodejs and npm, which build the console"; apt-get update -qq || true; \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nodejs npm >/dev/null; }

## browser: Debian's chromium, for the console's tests and screenshots. Installed only when it is missing; where it cannot be, the tests are skipped.
.PHONY: browser
browser:
	@command -v chromium >/dev/null || { echo "installing chromium, which the console is tested in"; apt-get update -qq || true; \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null || echo "chromium cannot be installed: the console's browser tests are skipped" >&2; }

## screenshots: docs/screenshots, of a Berth with --runtime fake.
.PHONY: screenshots
screenshots: build browser
	BERTH_BROWSER=1 BERTH_BIN=$(CURDIR)/bin/berth BERTH_SCREENSHOTS=$(CURDIR)/docs/screenshots go test -count=1 -run TestScreenshots -v ./test/console

## bench-registry: pushes and pulls of the registry, plain and encrypted, beside write+fsync and sha256 of the same bytes.
.PHONY: bench-registry
bench-registry:
	go test -run xxx -bench BenchmarkRegistry -benchtime 2s -count 3 ./internal/serve/registry

## fleet: three machines as namespaces on this box, one cluster, the shop on it, and a machine that dies. Needs root.
fleet: build shop
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o bin/fleet ./examples/fleet
	bin/fleet up
	bin/fleet show

## fleet-down: the machines of `make fleet` go, with their data.
fleet-down:
	bin/fleet down

## test: everything. As root the integration tests run real containers; without root they are skipped, and say so.
test: deps build shop browser
	@test -z "$$(gofmt -l cmd internal examples deploy test)" || { echo "gofmt these:"; gofmt -l cmd internal examples deploy test; exit 1; }
	go vet ./...
	go test ./...
	go test -race $(RACE)
	BERTH_BROWSER=1 BERTH_BIN=$(CURDIR)/bin/berth go test -count=1 -timeout 20m ./test/console
	$(MAKE) integration

## integration: real containers, real clients, and kills. Needs root.
integration: build shop
	@if [ "$$(id -u)" != 0 ]; then echo "SKIP integration tests: they need root"; else \
	  BERTH_INTEGRATION=1 BERTH_BIN=$(CURDIR)/bin/berth go test -count=1 -p 1 -timeout 40m \
	    ./internal/node/agent/... ./internal/node/daemon/... ./test/...; fi

## test-cgroup2: what concerns cgroups, in a virtual machine that has v2 only: on a machine and nested, as in a container. No part of test.
test-cgroup2: build
	@test/cgroup2/run.sh

## test-firewalls: ufw, firewalld and Docker, installed in a root file system that is gone afterwards, start before and after Berth. No part of test.
test-firewalls:
	go test -c -o bin/network.test ./internal/node/agent/network
	@unshare --mount test/firewalls/run.sh

## soak: everything killed, stopped and starved in turn while deployments and traffic go on; SOAK=20m unless told. Then FUZZ=200 rounds
## of cuts, power cuts, kills and full disks on several machines.
SOAK ?= 20m
FUZZ ?= 200
soak: build
	BERTH_INTEGRATION=1 BERTH_BIN=$(CURDIR)/bin/berth BERTH_SOAK=$(SOAK) go test -count=1 -v -timeout 24h -run 'TestSoak$$' ./test/e2e
	BERTH_INTEGRATION=1 BERTH_BIN=$(CURDIR)/bin/berth BERTH_FUZZ=$(FUZZ) go test -count=1 -v -timeout 24h -run 'TestFuzz$$' ./test/fleet

## bench: measurements with their floors, as ratios.
bench: build browser
	BERTH_BROWSER=1 BERTH_BIN=$(CURDIR)/bin/berth go test -run '^$$' -bench . -benchtime 1x -timeout 20m ./test/console
	BERTH_INTEGRATION=1 BERTH_BIN=$(CURDIR)/bin/berth go test -run '^$$' -bench . -benchtime 1x -timeout 30m -p 1 ./test/e2e/...
	go test -run '^$$' -bench . -p 1 ./internal/serve/... ./internal/store/... ./internal/control/... \
	  ./internal/places/... ./internal/plan/placement/...
	BERTH_BENCH=1 go test -run '^$$' -bench Decide ./internal/plan/policy

## dist: dist/ with archives and packages for every platform, checksums and a bill of materials. Installs a cross compiler on Debian.
dist: deps
	deploy/dist.sh

## bench-fleet: how fast a fleet heals and grows, machines as namespaces on this box (BERTH_ROUNDS is how often each is done); one stream from
## machine to machine; who takes over; and 10,000 nodes: what liveness costs, and what happens when a third of them is lost at once.
bench-fleet: build
	BERTH_INTEGRATION=1 BERTH_BIN=$(CURDIR)/bin/berth go test -run '^$$' -bench . -benchtime 1x -timeout 30m -p 1 -v ./test/fleet
	BERTH_INTEGRATION=1 go test -run '^$$' -bench Stream -benchtime 1x -count 5 ./internal/node/overlay
	go test -run '^$$' -bench TakeOver -benchtime 20x ./internal/store/etcd
	BERTH_FLEET=1 go test -count=1 -v -timeout 20m ./test/thousands

## lint: the import ladder and the rest of .golangci.yml. Builds golangci-lint on first use.
lint:
	go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0 run

clean:
	rm -rf bin dist $(EMBEDDED)/runc $(EMBEDDED)/containerd-shim-runc-v2 $(CONSOLE)/web/node_modules && find $(CONSOLE)/dist -mindepth 1 ! -name README.md -delete
