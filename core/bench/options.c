/* options -- see options.h. */
#include "core/bench/options.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 64, EXIT_USAGE = 64 };

void options_refuse(const char *program, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "%s: ", program);
    vfprintf(stderr, format, args);
    fprintf(stderr, "; --help lists the options\n");
    va_end(args);
    exit(EXIT_USAGE);
}

static _Noreturn void help(const char *program, const char *purpose, const option_row *rows,
                           int count)
{
    printf("%s -- %s\n\n", program, purpose);
    for (int i = 0; i < count; i++)
        printf("  --%-12s %s\n", rows[i].name, rows[i].help);
    exit(0);
}

static bool parse_number(const char *text, double low, double high, double *value)
{
    char *end;
    *value = strtod(text, &end);
    return end > text && !*end && *value >= low && *value <= high;
}

static bool parse_count(const char *text, long *value)
{
    double number;
    if (!parse_number(text, 1, 1000000, &number))
        return false;
    *value = (long)number;
    return number == (double)*value;
}

static bool parse_bytes(const char *text, size_t *value)
{
    static const char units[] = "KMG";
    char *end;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    const char *unit = *end ? strchr(units, *end) : NULL;
    int shift = unit ? 10 * (int)(unit - units + 1) : 0;
    *value = (size_t)n << shift;
    bool ended = unit ? !end[1] : !*end && end > text;
    return ended && !errno && *text != '-' && n > 0 && n <= (SIZE_MAX >> 1 >> shift);
}

static bool take(const option_row *row, const char *text)
{
    switch (row->kind) {
    case OPTION_FLAG:
        *(bool *)row->value = true;
        return true;
    case OPTION_COUNT:
        return parse_count(text, row->value);
    case OPTION_SECONDS:
        return parse_number(text, 1e-6, 3600, row->value);
    case OPTION_BYTES:
        return parse_bytes(text, row->value);
    case OPTION_TEXT:
        *(const char **)row->value = text;
        return true;
    }
    bug("option kind %d", row->kind);
}

void options_parse(const char *program, const char *purpose, const option_row *rows, int count,
                   int argc, char **argv)
{
    struct option options[MOST + 2] = {{0}};
    if (count > MOST)
        bug("%d options", count);
    for (int i = 0; i < count; i++)
        options[i] = (struct option){
            rows[i].name, rows[i].kind == OPTION_FLAG ? no_argument : required_argument, NULL, i};
    options[count] = (struct option){"help", no_argument, NULL, count};
    for (int i; (i = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (i == count)
            help(program, purpose, rows, count);
        if (i == '?') /* getopt has told */
            exit(EXIT_USAGE);
        if (!take(&rows[i], optarg))
            options_refuse(program, "--%s does not take \"%s\"", rows[i].name, optarg);
    }
    if (optind < argc)
        options_refuse(program, "\"%s\" is no option", argv[optind]);
}
