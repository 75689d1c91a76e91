# The front door. Everything else is CMake.
#   make            builds ./tern          make test            builds and runs the tests
#   make run        the bundled model      make test-sanitized  tests under ASan+UBSan and TSan (ROOMS="base graph": only these)
#   make deps       installs the packages  make check-neon      compiles the kernels for aarch64
BUILD ?= build
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
PACKAGES = g++ cmake libhwy-dev libtbb-dev doctest-dev libcli11-dev nlohmann-json3-dev libutf8proc-dev libxxhash-dev zlib1g-dev libzstd-dev python3
OPTIONAL = libtomlplusplus-dev  # and libopenmpi-dev openmpi-bin, which are large: tools/corpus/README.md
SUDO = $(shell [ "$$(id -u)" = 0 ] || echo sudo)
PROMPT ?= The old captain looked at the sea and said

.PHONY: build deps need-deps run test test-sanitized check-neon fuzz format tidy clean
build: need-deps
	@cmake -S . -B $(BUILD) > $(BUILD)-configure.log 2>&1 || { cat $(BUILD)-configure.log; rm -f $(BUILD)-configure.log; exit 1; }; rm -f $(BUILD)-configure.log
	@cmake --build $(BUILD) --target tern -j $(JOBS)
	@cp -f $(BUILD)/tern tern; [ ! -f $(BUILD)/tern_mpi.so ] || cp -f $(BUILD)/tern_mpi.so tern_mpi.so

# Installs only what is missing.
need-deps:
	@dpkg -s $(PACKAGES) > /dev/null 2>&1 || $(MAKE) --no-print-directory deps
deps:
	$(SUDO) apt-get update -qq
	$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(PACKAGES)
	-@$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(OPTIONAL)

run: build
	@./tern run models/zoo/books-xl.tern "$(PROMPT)" --new-tokens 120

test: build
	@cmake --build $(BUILD) --target tests -j $(JOBS)
	@tests/run $(BUILD)

test-sanitized: need-deps
	@tests/run-sanitized $(JOBS) $(ROOMS)

check-neon:
	@tests/check-neon

fuzz:
	@tests/run-fuzz

format:
	@git ls-files '*.cc' '*.h' | xargs clang-format -i
tidy: build
	@git ls-files 'engine/*.cc' 'formats/*.cc' 'models/*.cc' 'tools/*.cc' | xargs -P $(JOBS) -n 4 clang-tidy -p $(BUILD) --quiet
clean:
	rm -rf build build-* tern
