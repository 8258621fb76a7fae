/*
 * say -- torcrun's own voice on stderr, and the exit codes it promises.
 */
#ifndef LAUNCHER_SAY_H
#define LAUNCHER_SAY_H

#include "core/base.h"

/* Written once; --help prints the same rows. A rank's own exit code passes through unchanged. */
#define EXIT_CODES(ROW) \
    ROW(EXIT_USAGE, 64, "the command line was not understood") \
    ROW(EXIT_FEW_HOSTS, 69, "fewer hosts than the job needs, or no such run to watch") \
    ROW(EXIT_LAUNCHER, 70, "the ranks could not be started, or one was lost without a word") \
    ROW(EXIT_AGAIN, 75, "all ranks have saved their work and left, and want to go on later") \
    ROW(EXIT_RENDEZVOUS, 76, \
        "the ranks did not meet: one never came, or left while others waited") \
    ROW(EXIT_HANG, 124, "a rank showed no sign of life for --hang-timeout seconds") \
    ROW(EXIT_CANNOT_RUN, 126, "the program was found but cannot be run") \
    ROW(EXIT_NOT_FOUND, 127, "the program was not found") \
    ROW(EXIT_SIGNAL, 128, "plus the number of the signal that ended the first rank, or torcrun")

#define EXIT_CODE_NAME(name, code, meaning) name = code,
enum exit_code { EXIT_CODES(EXIT_CODE_NAME) };
#undef EXIT_CODE_NAME

/* "torcrun: ..." on stderr, in one write. */
void say(const char *format, ...) PRINTF_LIKE(1, 2);
/* The same, and then the end of this process: before any rank was started. */
_Noreturn void quit(int code, const char *format, ...) PRINTF_LIKE(2, 3);

/* Writes all bytes; false once nobody reads them any more. May have them written by another, who
 * does not wait for the reader (terminal.h). */
typedef bool sayer(int fd, const char *bytes, size_t n);
sayer say_bytes;
sayer say_now; /* by this thread, whatever say_divert() was given */
void say_divert(sayer *to);

#endif
