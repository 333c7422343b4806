# `make help` lists the targets. Nothing but Go is needed for run, build and test.
SHELL       := /bin/sh
GO          ?= go
PLUGINS     := $(notdir $(patsubst %/main.go,%,$(wildcard plugins/*/main.go)))
MODULES     := $(PLUGINS:%=bin/plugins/%.wasm)
# What make bench measures of one call, beside whole processes.
ONE         := ^Benchmark(Hook|Text|Stream|Request|Metering|Call|Reset)$$
# And of one decision.
DECIDE      := ^Benchmark(Decision|Input|Reload)$$
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

# What the race detector has nothing to find in, one goroutine that compares or decodes, and two tests that are held to the
# clock, which the detector slows: make test runs all of it.
ALONE       := ^Test(NativeBuiltins|HostedBuiltins|EnginesAgree.*|EngineOf|BuiltinsWithHostileArguments|ShortWaysChangeNoDecision|MemoryChangesNothing|RemovedBuiltinsDoNotCompile|PrefixHoldsItsBars|DecodeInTime|DecodeByteFlips|LoopingPluginBesideHealthyCalls|PolicyAndKeyFiles)$$

.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: plugins ## build bin/nexus with the shipped plugins and policies inside
	$(GO) build -ldflags="-s -w" -o bin/nexus ./cmd/nexus

run: build ## run the gateway on embedded defaults, with a mock backend
	@exec bin/nexus serve

plugins: $(MODULES) ## build the shipped plugins from source
	@$(GO) run plugins/pack.go plugins/dist/shipped.zip bin/plugins

bin/plugins/%.wasm: FORCE
	@mkdir -p bin/plugins
	GOOS=wasip1 GOARCH=wasm $(GO) build -trimpath -buildmode=c-shared -ldflags=-s -o $@ ./plugins/$*
	@cp plugins/$*/manifest.yaml bin/plugins/$*.yaml

test: plugins ## run the tests, and say by name what is skipped
	@.ci/tests $(GO) test -v ./...

race: plugins ## run the tests under the race detector
	$(GO) test -race -skip '$(ALONE)' -timeout 20m $$($(GO) list ./core/... | grep -v /core/sandbox$$)
	$(GO) test -race -short -timeout 20m ./core/sandbox ./sdk/... ./plugins/...
	NEXUS_WALL_RACE=1 $(GO) test -count=1 ./cmd/nexus/wall

fuzz: plugins ## run every fuzz target for a moment (FUZZTIME=10s)
	.ci/fuzz

lint: ## vet, staticcheck and formatting
	@test -z "$$(gofmt -l core cmd sdk plugins policies k8s examples)" || { gofmt -l core cmd sdk plugins policies k8s examples; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...

e2e: build ## drive the built binary with curl and the openai Node and Go SDKs
	NEXUS_E2E=1 $(GO) test -count=1 ./cmd/nexus/...

bench: build ## compare with direct, nginx and a bare ReverseProxy; writes BENCHMARKS.md
	$(GO) build -o bin/nexus-bench ./cmd/nexus-bench
	bin/nexus-bench compare --nexus bin/nexus --write BENCHMARKS.md
	@for round in 1 2 3; do $(GO) test -run '^$$' -benchmem -cpu 1 -benchtime 300ms -bench '$(ONE)' ./core/plugin ./core/sandbox || exit 1; done \
	  | bin/nexus-bench micro --title 'One call of a plugin, on one core' --append BENCHMARKS.md
	@for round in 1 2 3; do $(GO) test -run '^$$' -benchmem -benchtime 500ms -bench 'Share' ./core/sandbox || exit 1; done \
	  | bin/nexus-bench micro --title '64 goroutines on a pool of so many instances' --append BENCHMARKS.md
	bin/nexus-bench balance --append BENCHMARKS.md
	@for round in 1 2 3; do $(GO) test -run '^$$' -benchmem -cpu 1 -benchtime 300ms -bench '^Benchmark(Choose|Pick|Prompt|Chain)$$' ./core/upstream ./core/upstream/balance || exit 1; done \
	  | bin/nexus-bench micro --title 'Picking a replica, on one core' --append BENCHMARKS.md

	@for round in 1 2 3; do $(GO) test -run '^$$' -cpu 1 -benchtime 300ms -bench '$(DECIDE)' ./core/policy || exit 1; done \
	  | bin/nexus-bench micro --title 'One decision of policies/bench by either engine, its input, and a reload of 50 modules' --append BENCHMARKS.md

clean: ## remove what was built
	rm -rf bin plugins/dist/shipped.zip

FORCE:
.PHONY: help build run plugins test race fuzz lint e2e bench clean FORCE
