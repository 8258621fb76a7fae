/* options -- see options.h. */
#include "examples/common/options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXIT_USAGE 64

static void print_default(const option *o)
{
    if (o->kind == OPTION_INT)
        printf(" [%ld]", *(const long *)o->value);
    else if (o->kind == OPTION_NUMBER)
        printf(" [%g]", *(const double *)o->value);
    else if (o->kind == OPTION_TEXT && *(const char **)o->value)
        printf(" [%s]", *(const char **)o->value);
}

static void print_help(const char *program, const char *about, const option *table, int count)
{
    static const char *const kinds[] = {"N", "X", "TEXT", ""};
    printf("%s -- %s\n\nusage: %s [options]\n\n", program, about, program);
    for (int i = 0; i < count; i++) {
        int width = printf("  --%s %s", table[i].name, kinds[table[i].kind]);
        printf("%*s%s", 24 - width, "", table[i].help);
        print_default(&table[i]);
        printf("\n");
    }
    printf("  --help                this text\n");
}

static const option *find(const char *name, size_t length, const option *table, int count)
{
    for (int i = 0; i < count; i++)
        if (strlen(table[i].name) == length && !strncmp(table[i].name, name, length))
            return &table[i];
    return NULL;
}

static int set(const option *o, const char *text)
{
    char *end = "";
    if (o->kind == OPTION_INT)
        *(long *)o->value = strtol(text, &end, 10);
    else if (o->kind == OPTION_NUMBER)
        *(double *)o->value = strtod(text, &end);
    else
        *(const char **)o->value = text;
    return *text && !*end;
}

void options_parse(int argc, char **argv, const char *about, const option *table, int count)
{
    const char *slash = strrchr(argv[0], '/'), *program = slash ? slash + 1 : argv[0];
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--help")) {
            print_help(program, about, table, count);
            exit(0);
        }
        const char *name = strncmp(argv[i], "--", 2) ? "" : argv[i] + 2;
        const char *equals = strchr(name, '=');
        const option *o = find(name, equals ? (size_t)(equals - name) : strlen(name), table, count);
        if (o && o->kind == OPTION_FLAG) {
            *(int *)o->value = 1;
            continue;
        }
        const char *value = equals ? equals + 1 : i + 1 < argc ? argv[++i] : "";
        if (o && set(o, value))
            continue;
        fprintf(stderr, "%s: %s %s; --help lists the options\n", program,
                o ? "no value for" : "unknown option", argv[i]);
        exit(EXIT_USAGE);
    }
}

torc_dtype options_dtype(const common_options *o, const char *program)
{
    if (o->bf16 && o->fp16) {
        fprintf(stderr, "%s: expected --bf16 or --fp16, found both\n", program);
        exit(EXIT_USAGE);
    }
    return o->bf16 ? TORC_BF16 : o->fp16 ? TORC_F16 : TORC_F32;
}
