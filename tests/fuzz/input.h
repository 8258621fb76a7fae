/*
 * input -- what the fuzzers share: an input becomes a file, and a message becomes a finding.
 *
 * libFuzzer (LLVM) calls LLVMFuzzerTestOneInput() with bytes that it changes until new lines of the
 * readers run. Whatever the bytes are, a torc_try_*() call must return: with what was read, or with
 * a sentence. The sanitizers watch that nothing else happens.
 */
#ifndef TESTS_FUZZ_INPUT_H
#define TESTS_FUZZ_INPUT_H

#include "core/base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Dying is for a caller's mistake; a file's content is none. */
static void must_not_die(int code)
{
    fprintf(stderr, "the reader ended the process with exit code %d\n", code);
    abort();
}

/* Writes the bytes to a file of this process's own in TMPDIR; the path is good until this name is
 * used again. */
static inline const char *input_file(const char *name, const uint8_t *bytes, size_t n, char path[],
                                     size_t path_size)
{
    const char *dir = getenv("TMPDIR");
    base_on_exit(must_not_die);
    snprintf(path, path_size, "%s/%d-%s", dir ? dir : "/tmp", (int)getpid(), name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(bytes, 1, n, f) != n || fclose(f) != 0) {
        perror(path);
        abort();
    }
    return path;
}

/* A refusal names the file and says something about it. */
static inline void check_refusal(const char *path)
{
    if (!strstr(torc_last_error(), path) || strlen(torc_last_error()) < strlen(path) + 5) {
        fprintf(stderr, "no sentence about %s: \"%s\"\n", path, torc_last_error());
        abort();
    }
}

#endif
