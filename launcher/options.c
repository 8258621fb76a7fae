/* options -- see options.h. */
#include "launcher/options.h"

#include "launcher/say.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct option_row {
    const char *name, *what, *meaning; /* what: NULL for a flag */
    char letter;
    long low, high;
    size_t at; /* of the field in struct options */
} option_row;

static const option_row rows[] = {
#define FLAG(field, letter, name, meaning) \
    {name, NULL, meaning, letter, 0, 0, offsetof(options, field)},
#define COUNT(field, letter, name, what, usual, low, high, meaning) \
    {name, what, meaning, letter, low, high, offsetof(options, field)},
#include "launcher/options.def"
#undef FLAG
#undef COUNT
};

/* ---- reading ---- */

/* `value` is set to what follows in the same word (--ranks=4, -n4), or to NULL. */
static const option_row *find(const char *word, const char **value)
{
    *value = NULL;
    for (int i = 0; i < ARRAY_LENGTH(rows); i++) {
        const option_row *row = &rows[i];
        size_t n = strlen(row->name);
        if (!strncmp(word, "--", 2) && !strncmp(word + 2, row->name, n) &&
            (word[2 + n] == 0 || word[2 + n] == '=')) {
            *value = word[2 + n] ? word + 3 + n : NULL;
            return row;
        }
        if (row->letter && word[1] == row->letter && (row->what || !word[2])) {
            *value = word[2] ? word + 2 : NULL;
            return row;
        }
    }
    return NULL;
}

static int number(const option_row *row, const char *word, const char *value)
{
    char *end;
    errno = 0;
    long n = strtol(value, &end, 10);
    if (errno || end == value || *end || n < row->low || n > row->high)
        quit(EXIT_USAGE, "%s takes a number from %ld to %ld, not \"%s\"", word, row->low, row->high,
             value);
    return (int)n;
}

/* Takes the option at argv[0], and its value; returns where the next word stands. */
static char **take(options *o, char **argv)
{
    const char *word = argv[0], *value;
    const option_row *row = find(word, &value);
    if (!row)
        quit(EXIT_USAGE, "unknown option %s (torcrun --help lists them)", word);
    char *field = (char *)o + row->at;
    if (!row->what) {
        if (value)
            quit(EXIT_USAGE, "--%s takes no value, found %s", row->name, word);
        *(bool *)field = true;
        return argv + 1;
    }
    if (!value)
        value = *++argv;
    if (!value)
        quit(EXIT_USAGE, "%s needs a value: %s %s", word, word, row->what);
    *(int *)field = number(row, word, value);
    return argv + 1;
}

options options_read(char **argv)
{
    options o = {
#define FLAG(field, letter, name, meaning) .field = false,
#define COUNT(field, letter, name, what, usual, low, high, meaning) .field = usual,
#include "launcher/options.def"
#undef FLAG
#undef COUNT
    };
    for (argv++; *argv && (*argv)[0] == '-' && (*argv)[1];) {
        if (!strcmp(*argv, "--")) {
            argv++;
            break;
        }
        argv = take(&o, argv);
    }
    o.program = argv;
    return o;
}

/* ---- help ---- */

void options_help(void)
{
    printf("torcrun [options] [--] program [arguments]\n\n"
           "Starts a program on several ranks, shows what they print, and ends them together.\n\n");
    for (int i = 0; i < ARRAY_LENGTH(rows); i++) {
        const option_row *row = &rows[i];
        char left[64], letter[8] = "    ";
        if (row->letter)
            snprintf(letter, sizeof letter, "-%c, ", row->letter);
        snprintf(left, sizeof left, "%s--%s%s%s", letter, row->name, row->what ? " " : "",
                 row->what ? row->what : "");
        printf("  %-28s %s\n", left, row->meaning);
    }
    printf("\nExit code: that of the first rank that failed, else 0; or\n");
#define ROW(name, code, meaning) printf("  %-6d %s\n", code, meaning);
    EXIT_CODES(ROW)
#undef ROW
    printf("\nStandard input goes to rank 0. Lines on standard error carry the [rank] in front.\n"
           "What Open MPI is told in variables OMPI_MCA_... is left as you set it.\n");
}
