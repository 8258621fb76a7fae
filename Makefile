# torc -- detect, build, test, install. `make help` lists the targets.
#
#   build/lib   libtorc.so, libtorc.a           from core/ comm/ allreduce/
#   build/bin   torcrun, and a program an example
#   build/test  a program a file of tests/
#
# Variables: BUILD=dir  CC=compiler  CFLAGS=...  SAN=address|undefined|thread  T=name (one test)  PREFIX, DESTDIR
#            CUDA=0|1 (else where nvcc is)  CUDA_ARCH="80 90" (compute capabilities)

BUILD   ?= build
CC      ?= gcc
PREFIX  ?= /usr/local
CFLAGS  ?= -O3 -g
SAN     ?=
ifneq ($(SAN),)
override BUILD := $(BUILD)/$(SAN)
sanitize := -fsanitize=$(SAN) -fno-omit-frame-pointer
endif

# ---- libraries: scripts/packages says why each ----

mpi_flags := $(shell mpicc --showme:compile 2>/dev/null)
mpi_libs  := $(shell mpicc --showme:link 2>/dev/null)
libs      := -ldnnl -lhwloc -ljansson -lz $(mpi_libs) -lmvec -lm -lpthread

# -fno-math-errno and -fno-trapping-math let loops with exp and sqrt become vector code and keep NaN and
# infinity as they are; -ffast-math would not.
flags := -std=gnu11 $(CFLAGS) -fno-math-errno -fno-trapping-math -fopenmp -fPIC -fno-semantic-interposition \
         -Wall -Wextra -Werror=implicit-function-declaration -I. $(sanitize) -MMD -MP

# ---- the GPU: compiled in where the CUDA toolkit is; torc finds out at run time whether there is one ----

nvcc      := $(or $(shell command -v nvcc),$(wildcard /usr/local/cuda/bin/nvcc))
CUDA      ?= $(if $(nvcc),1,0)
CUDA_ARCH ?= 80 90
ifeq ($(CUDA),1)
ifeq ($(nvcc),)
$(error CUDA=1, but there is no nvcc: install the CUDA toolkit, or build with CUDA=0)
endif
cuda_home := $(patsubst %/bin/nvcc,%,$(realpath $(nvcc)))
# The runtime is linked in, so that the same file runs where no CUDA is installed.
libs      += -L$(cuda_home)/lib64 -lcudart_static -lstdc++ -ldl -lrt
# The newest architecture also as PTX, which the driver compiles for those that came after it.
NCCL      ?= $(if $(wildcard $(cuda_home)/include/nccl.h),1,0)
nvcc_arch := $(foreach a,$(CUDA_ARCH),-gencode arch=compute_$(a),code=sm_$(a)) \
             -gencode arch=compute_$(lastword $(CUDA_ARCH)),code=compute_$(lastword $(CUDA_ARCH))
endif
cuda_flags := -std=c++17 -O3 -g -I. -MMD -MP

# ---- what is built from what ----

core_sources    := $(wildcard core/*.c core/ops/*.c core/cpu/*.c core/nn/*.c core/optim/*.c core/data/*.c core/io/*.c)
simd_sources    := $(wildcard core/cpu/simd/*.c)
comm_sources    := $(filter-out comm/nccl%,$(wildcard comm/*.c))
nccl_source     := comm/nccl$(if $(filter 11,$(CUDA)$(NCCL)),,_none)
bench_sources   := $(wildcard allreduce/bench*.c)
op_bench_sources := $(wildcard core/bench/*.c)
reduce_sources  := $(filter-out $(bench_sources),$(wildcard allreduce/*.c))
library_sources := $(core_sources) $(comm_sources) $(reduce_sources)
simd_levels     := v2 v3 v4
dots_sources    := $(wildcard core/cpu/simd/attention*.c)
cuda_sources    := $(wildcard core/cuda/*.c core/cuda/*.cu)
host_objects    := $(library_sources:%.c=$(BUILD)/obj/%.o) \
                   $(foreach l,$(simd_levels),$(simd_sources:%.c=$(BUILD)/obj/%.$(l).o)) \
                   $(dots_sources:%.c=$(BUILD)/obj/%.v4_bf16.o)
cuda_objects    := $(addprefix $(BUILD)/obj/,$(addsuffix .o,$(basename $(cuda_sources))))
library_objects := $(host_objects) $(BUILD)/obj/$(nccl_source).o $(if $(filter 1,$(CUDA)),$(cuda_objects))
# The same files for a GPU that is not there: tests/cuda_emu.
emu_objects     := $(addprefix $(BUILD)/emu/,$(addsuffix .o,$(basename $(cuda_sources) comm/nccl.c $(wildcard tests/cuda_emu/*.cpp))))
launcher_objects := $(patsubst %.c,$(BUILD)/obj/%.o,$(wildcard launcher/*.c) core/base.c core/status.c)
example_objects  := $(patsubst %.c,$(BUILD)/obj/%.o,$(wildcard examples/common/*.c))
examples := $(patsubst examples/%.c,$(BUILD)/bin/%,$(wildcard examples/*.c))
test_support := $(patsubst %.c,$(BUILD)/obj/%.o,$(filter-out tests/test_%,$(wildcard tests/*.c)))
tests    := $(patsubst tests/%.c,$(BUILD)/test/%,$(filter-out tests/test_cuda_%,$(wildcard tests/test_*.c)))
# Those that run on a GPU as well, and those of its own kernels. `make test` takes the emulated GPU,
# and leaves out what is slow there.
on_gpu   := adam attention autocast checkpoint checkpoint_files clip compressor conv ddp dropout elementwise f16 in_backward \
            index init join layers leaf linear loader loss_scale losses matmul memory meter module names norm optimizer pool print \
            recompute recompute_layer reduce reduction remake replicas select sgd skip softmax sync_norm tape text_dataset transformer views weights \
            $(patsubst tests/test_%.c,%,$(wildcard tests/test_cuda_*.c))
slow_emu := adam attention autocast checkpoint checkpoint_files compressor conv elementwise in_backward init leaf linear \
            loader memory names norm pool print recompute recompute_layer reduce reduction remake replicas sgd skip sync_norm
emulated := $(addprefix $(BUILD)/test/emu_,$(filter-out $(slow_emu),$(on_gpu)))

.PHONY: all lib test test-emu test-gpu soak check-includes fuzz bench-peer bench-gpu bench-allreduce bench-step bench-checkpoint bench-ops install uninstall clean help
.DELETE_ON_ERROR:
.SECONDARY:

all: lib $(BUILD)/bin/torcrun $(if $(bench_sources),$(BUILD)/bin/torc-allreduce-bench) $(if $(op_bench_sources),$(BUILD)/bin/torc-op-bench) $(examples) check-includes
lib: $(BUILD)/lib/libtorc.so $(BUILD)/lib/libtorc.a

# ---- packages: a missing one is a line at the start, not an error in the middle ----

$(BUILD)/packages: scripts/packages
	@mkdir -p $(@D)
	@command -v $(CC) >/dev/null || { echo "torc needs a C compiler: install the package gcc"; exit 1; }
	@grep -v '^#' $< | while read -r package header why; do \
	    [ "$$header" = - ] || echo "#include <$$header>" | $(CC) $(mpi_flags) -E -o /dev/null - 2>/dev/null || \
	    { echo "torc needs $$header: install the package $$package (scripts/deps.sh installs all)"; exit 1; }; \
	done
	@touch $@

# ---- objects ----

$(BUILD)/obj/comm/%.o: comm/%.c | $(BUILD)/packages
	@mkdir -p $(@D)
	$(CC) $(flags) $(mpi_flags) -c $< -o $@
$(BUILD)/obj/allreduce/bench%.o: allreduce/bench%.c | $(BUILD)/packages
	@mkdir -p $(@D)
	$(CC) $(flags) $(mpi_flags) -c $< -o $@
$(BUILD)/obj/examples/%.o: examples/%.c | $(BUILD)/packages
	@mkdir -p $(@D)
	$(CC) $(flags) -Icore -c $< -o $@
$(BUILD)/obj/%.o: %.c | $(BUILD)/packages
	@mkdir -p $(@D)
	$(CC) $(flags) -c $< -o $@

# A file of core/cpu/simd/ is compiled once per instruction set (core/cpu/simd.h).
simd_v2 := -march=x86-64-v2
simd_v3 := -march=x86-64-v3
simd_v4 := -march=x86-64-v4 -mprefer-vector-width=512
simd_v4_bf16 := $(simd_v4) -mavx512bf16
define simd_rule
$(BUILD)/obj/core/cpu/simd/%.$(1).o: core/cpu/simd/%.c | $(BUILD)/packages
	@mkdir -p $$(@D)
	$(CC) $$(flags) $(simd_$(1)) -DSIMD_LEVEL=$(1) -c $$< -o $$@
endef
$(foreach l,$(simd_levels) v4_bf16,$(eval $(call simd_rule,$(l))))
# The same bits at every level, also at those that have fused multiply-adds.
$(BUILD)/obj/core/cpu/simd/random.%.o: flags += -ffp-contract=off
$(BUILD)/obj/core/cpu/amx.o: flags += -mamx-tile -mamx-bf16

$(BUILD)/obj/comm/nccl.o: flags += -I$(cuda_home)/include
$(BUILD)/obj/core/cuda/%.o: core/cuda/%.c | $(BUILD)/packages
	@mkdir -p $(@D)
	$(CC) $(flags) -I$(cuda_home)/include -c $< -o $@
$(BUILD)/obj/core/cuda/%.o: core/cuda/%.cu | $(BUILD)/packages
	@mkdir -p $(@D)
	$(nvcc) $(cuda_flags) $(nvcc_arch) -Xcompiler -fPIC,-Wall -c $< -o $@

emu_flags := -fPIC -Itests/cuda_emu $(sanitize) -Wall -Wextra -Wno-unknown-pragmas
$(BUILD)/emu/%.o: %.c | $(BUILD)/packages
	@mkdir -p $(@D)
	$(CC) $(flags) $(mpi_flags) $(emu_flags) -c $< -o $@
$(BUILD)/emu/%.o: %.cu | $(BUILD)/packages
	@mkdir -p $(@D)
	$(CXX) $(cuda_flags) -O1 $(emu_flags) -x c++ -c $< -o $@
$(BUILD)/emu/%.o: %.cpp | $(BUILD)/packages
	@mkdir -p $(@D)
	$(CXX) $(cuda_flags) -O1 $(emu_flags) -c $< -o $@

# ---- libraries: nothing but torc_ is visible, in the archive neither ----

$(BUILD)/lib/libtorc.so: $(library_objects) scripts/exports
	@mkdir -p $(@D)
	$(CC) -shared -fopenmp $(sanitize) -Wl,--version-script=scripts/exports -o $@ $(library_objects) $(libs)
$(BUILD)/lib/libtorc.a: $(library_objects)
	@mkdir -p $(@D)
	ld -r -o $(BUILD)/lib/torc.o $^
	objcopy --wildcard --keep-global-symbol='torc_*' $(BUILD)/lib/torc.o
	rm -f $@ && ar rcs $@ $(BUILD)/lib/torc.o && rm $(BUILD)/lib/torc.o
# Tests see the house from the inside: the same objects with every name visible.
$(BUILD)/test/libtorc_open.so: $(library_objects)
	@mkdir -p $(@D)
	$(CC) -shared -Wl,-soname,$(@F) -Wl,-Bsymbolic-functions -fopenmp $(sanitize) -o $@ $^ $(libs)

# ---- programs ----

$(BUILD)/bin/torcrun: $(launcher_objects)
	@mkdir -p $(@D)
	$(CC) $(sanitize) -o $@ $^ -lhwloc -ljansson -lm
# Sees the house from the inside, and MPI beside it.
$(BUILD)/bin/torc-allreduce-bench: $(bench_sources:%.c=$(BUILD)/obj/%.o) $(BUILD)/obj/core/bench/options.o $(library_objects)
	@mkdir -p $(@D)
	$(CC) -fopenmp $(sanitize) -o $@ $^ $(libs)
$(BUILD)/bin/torc-op-bench: $(op_bench_sources:%.c=$(BUILD)/obj/%.o) $(library_objects)
	@mkdir -p $(@D)
	$(CC) -fopenmp $(sanitize) -o $@ $^ $(libs)
$(BUILD)/bin/%: $(BUILD)/obj/examples/%.o $(example_objects) $(BUILD)/lib/libtorc.so
	@mkdir -p $(@D)
	$(CC) -fopenmp $(sanitize) -o $@ $< $(example_objects) -L$(BUILD)/lib -ltorc -Wl,-rpath,'$$ORIGIN/../lib' \
	    -ljansson -lm
$(BUILD)/test/test_bench: $(patsubst %.c,$(BUILD)/obj/%.o,$(filter-out allreduce/bench.c,$(bench_sources)))
$(BUILD)/test/test_powersgd: $(BUILD)/obj/examples/common/powersgd.o
$(BUILD)/test/test_meter $(BUILD)/test/emu_meter $(BUILD)/test/gpu_meter: $(addprefix $(BUILD)/obj/examples/common/,meter.o gpt.o)
$(BUILD)/test/test_doctor: $(addprefix $(BUILD)/obj/launcher/,$(addsuffix .o,ask cores devices facts hosts machine machine_pci say slurm spawn text words))
$(BUILD)/test/%: $(BUILD)/obj/tests/%.o $(test_support) $(BUILD)/test/libtorc_open.so
	@mkdir -p $(@D)
	$(CC) -fopenmp $(sanitize) -o $@ $^ -Wl,-rpath,'$$ORIGIN' $(libs) -lcunit
$(BUILD)/test/gpu_%: $(BUILD)/obj/tests/test_%.o $(test_support) $(BUILD)/test/libtorc_open.so
	@mkdir -p $(@D)
	$(CC) -fopenmp $(sanitize) -o $@ $^ -Wl,-rpath,'$$ORIGIN' $(libs) -lcunit

$(BUILD)/emu/libnccl.so.2: tests/nccl_over_mpi/nccl.c
	@mkdir -p $(@D)
	$(CC) $(flags) $(mpi_flags) -Itests/cuda_emu -shared -o $@ $<
$(BUILD)/emu/libtorc_open.so: $(host_objects) $(emu_objects)
	@mkdir -p $(@D)
	$(CXX) -shared -Wl,-soname,$(@F) -Wl,-Bsymbolic-functions -fopenmp $(sanitize) -o $@ $^ $(libs)
$(BUILD)/test/emu_%: $(BUILD)/obj/tests/test_%.o $(test_support) $(BUILD)/emu/libtorc_open.so | $(BUILD)/emu/libnccl.so.2
	@mkdir -p $(@D)
	$(CXX) -fopenmp $(sanitize) -o $@ $^ -Wl,-rpath,'$$ORIGIN/../emu' $(libs) -lcunit

$(BUILD)/obj/tests/%.o: tests/%.c | $(BUILD)/packages
	@mkdir -p $(@D)
	$(CC) $(flags) $(mpi_flags) -c $< -o $@
$(BUILD)/obj/tests/test_powersgd.o $(BUILD)/obj/tests/test_meter.o: flags += -Icore
# They call CUDA's runtime by its C names, which are the same where no toolkit is.
$(BUILD)/obj/tests/test_cuda_%.o: flags += -Itests/cuda_emu

# ---- test ----

chosen := $(if $(T),$(filter $(addprefix %/test_,$(T)) $(addprefix %/emu_,$(T)),$(tests) $(emulated)),$(tests) $(emulated))
test: all $(chosen)
	@TORC_BIN=$(abspath $(BUILD)/bin) SAN=$(SAN) BESIDE="test_cluster test_sbatch" tests/run.sh $(chosen)

# On the emulated GPU with the slow ones; and on the GPU of this host.
test-emu: all $(on_gpu:%=$(BUILD)/test/emu_%)
	@TORC_BIN=$(abspath $(BUILD)/bin) SAN=$(SAN) TEST_SECONDS=300 tests/run.sh $(on_gpu:%=$(BUILD)/test/emu_%)
test-gpu: all $(on_gpu:%=$(BUILD)/test/gpu_%)
	@TORC_BIN=$(abspath $(BUILD)/bin) tests/run.sh $(on_gpu:%=$(BUILD)/test/gpu_%)

# Jobs in which a rank is stopped, skips a step or is killed: 300 of them, about 11 minutes.
$(BUILD)/bin/victim $(BUILD)/bin/lasting: $(BUILD)/bin/%: $(BUILD)/obj/tests/soak/%.o $(library_objects)
	@mkdir -p $(@D)
	$(CC) -fopenmp $(sanitize) -o $@ $^ $(libs)
soak: $(BUILD)/bin/torcrun $(BUILD)/bin/victim $(BUILD)/bin/lasting
	@for what in collectives training; do for how in skip stop; do \
	    TORC_BIN=$(abspath $(BUILD)/bin) VICTIM=$(abspath $(BUILD)/bin/victim) \
	    tests/soak/$$how.sh $$what || exit 1; \
	done; done
	@TORC_BIN=$(abspath $(BUILD)/bin) LASTING=$(abspath $(BUILD)/bin/lasting) tests/soak/restart.sh

check-includes:
	@scripts/check_includes.sh

fuzz:
	tests/fuzz/run.sh

bench-peer: all
	scripts/bench_peer.sh
bench-gpu: all
	BUILD=$(BUILD) scripts/bench_gpu.sh
bench-allreduce: all
	BUILD=$(BUILD) scripts/bench_allreduce.sh
bench-step: all
	BUILD=$(BUILD) scripts/bench_allreduce.sh --step
bench-checkpoint: all
	$(BUILD)/bin/torcrun -n 1 $(BUILD)/bin/torc-allreduce-bench --checkpoint $(BUILD)/bench-checkpoint --layers 24 --samples 256 --threads $$(nproc)
bench-ops: $(BUILD)/bin/torc-op-bench
	$(BUILD)/bin/torc-op-bench

# ---- install ----

man_dir  := $(PREFIX)/share/man/man1
bash_dir := $(PREFIX)/share/bash-completion/completions

install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/pkgconfig $(DESTDIR)$(PREFIX)/include
	install $(BUILD)/bin/torcrun $(BUILD)/bin/torc-allreduce-bench $(BUILD)/bin/torc-op-bench $(DESTDIR)$(PREFIX)/bin
	install $(BUILD)/lib/libtorc.so $(DESTDIR)$(PREFIX)/lib
	install -m 644 $(BUILD)/lib/libtorc.a $(DESTDIR)$(PREFIX)/lib
	install -m 644 core/torc.h core/torc_sites.h $(DESTDIR)$(PREFIX)/include
	printf 'prefix=%s\nName: torc\nDescription: distributed data-parallel training in C\nVersion: %s\nLibs: -L$${prefix}/lib -ltorc\nLibs.private: %s -fopenmp\nCflags: -I$${prefix}/include\n' \
	    '$(PREFIX)' "$$(sed -n 's/#define TORC_VERSION "\(.*\)"/\1/p' core/torc.h)" '$(libs)' \
	    > $(DESTDIR)$(PREFIX)/lib/pkgconfig/torc.pc
	install -d $(DESTDIR)$(man_dir) $(DESTDIR)$(bash_dir)
	$(BUILD)/bin/torcrun --help=man > $(DESTDIR)$(man_dir)/torcrun.1
	$(BUILD)/bin/torcrun --help=bash > $(DESTDIR)$(bash_dir)/torcrun
uninstall:
	rm -f $(DESTDIR)$(man_dir)/torcrun.1 $(DESTDIR)$(bash_dir)/torcrun
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/,bin/torcrun bin/torc-allreduce-bench bin/torc-op-bench lib/libtorc.so lib/libtorc.a include/torc.h include/torc_sites.h lib/pkgconfig/torc.pc)

clean:
	rm -rf $(BUILD)

help:
	@echo 'make                      the library, torcrun and the examples, into build/'
	@echo 'make test [T=name]        all tests, or tests/test_NAME.c alone'
	@echo 'make test-gpu             what can run on a GPU, on the one of this host; test-emu: on an emulated one, 3 minutes'
	@echo 'make SAN=address test     the same under a sanitizer (address, undefined, thread), into build/SAN'
	@echo 'make soak                 300 jobs in which a rank is stopped, skips a step or is killed: 11 minutes'
	@echo 'make fuzz                 60 seconds of fuzzing for each file reader (needs clang)'
	@echo 'make bench-peer           the workloads side by side with PyTorch (PYTHON= leads to it)'
	@echo 'make bench-gpu            gpt2 and cnn on one GPU, beside PyTorch where PYTHON= has one'
	@echo 'make bench-allreduce      sums over ranks against Open MPI, and gloo where PYTHON= has a PyTorch'
	@echo 'make bench-step           a training step with synchronised gradients against one without'
	@echo 'make bench-checkpoint     training that saves 300 MB every 50 steps against training that does not'
	@echo 'make bench-ops            every op of the workloads, forward and backward, against its floor'
	@echo 'make install PREFIX= DESTDIR=    torcrun with manual page and completion, the library, torc.h, torc.pc'
	@echo 'make uninstall, make clean, make check-includes'

-include $(shell find $(BUILD)/obj $(BUILD)/emu -name '*.d' 2>/dev/null)
