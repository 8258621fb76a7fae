/* options -- see options.h. */
#define _GNU_SOURCE /* getline */
#include "launcher/options.h"

#include "launcher/say.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum row_kind { ROW_FLAG, ROW_COUNT, ROW_TEXT, ROW_LIST, ROW_ACTION } row_kind;

typedef struct option_row {
    row_kind kind;
    const char *name, *what, *meaning; /* what: NULL for flags and actions */
    char letter;
    long low, high;
    size_t at, given; /* of the two fields in struct options */
} option_row;

#define AT(field) offsetof(options, field), offsetof(options, given.field)
static const option_row rows[] = {
#define FLAG(field, letter, name, meaning) {ROW_FLAG, name, NULL, meaning, letter, 0, 0, AT(field)},
#define COUNT(field, letter, name, what, usual, low, high, meaning) \
    {ROW_COUNT, name, what, meaning, letter, low, high, AT(field)},
#define TEXT(field, letter, name, what, meaning) \
    {ROW_TEXT, name, what, meaning, letter, 0, 0, AT(field)},
#define LIST(field, letter, name, what, meaning) \
    {ROW_LIST, name, what, meaning, letter, 0, 0, AT(field)},
#define ACTION(field, letter, name, meaning) \
    {ROW_ACTION, name, NULL, meaning, letter, 0, 0, AT(field)},
#include "launcher/options.def"
};
#undef AT

/* ---- one value ---- */

/* `word` is how the user named the option, for messages: -n, TORC_RANKS, job.conf:3: ranks. */
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

static bool yes_or_no(const char *word, const char *value)
{
    static const char *const words[] = {"no", "yes", "0", "1", "false", "true", "off", "on"};
    for (int i = 0; i < ARRAY_LENGTH(words); i++)
        if (!strcmp(value, words[i]))
            return i % 2;
    quit(EXIT_USAGE, "%s is yes or no, not \"%s\"", word, value);
}

static void add(const char ***list, const char *value)
{
    size_t n = 0;
    while (*list && (*list)[n])
        n++;
    *list = base_grow(*list, n + 2, sizeof **list);
    (*list)[n] = base_strdup(value);
    (*list)[n + 1] = NULL;
}

static void clear(options *o, const option_row *row)
{
    char **field = (char **)((char *)o + row->at);
    if (row->kind != ROW_TEXT && row->kind != ROW_LIST)
        return;
    for (char **text = (char **)*field; row->kind == ROW_LIST && text && *text; text++)
        free(*text);
    free(*field);
    *field = NULL;
}

/* Stores a value, unless a stronger source has spoken. */
static void store(options *o, const option_row *row, option_source source, const char *word,
                  const char *value)
{
    void *field = (char *)o + row->at;
    option_source *given = (option_source *)((char *)o + row->given);
    if (*given > source)
        return;
    if (row->kind == ROW_TEXT || *given < source) /* a list adds up within a source */
        clear(o, row);
    if (row->kind == ROW_COUNT)
        *(int *)field = number(row, word, value);
    else if (row->kind == ROW_TEXT)
        *(char **)field = base_strdup(value);
    else if (row->kind == ROW_LIST)
        add(field, value);
    else
        *(bool *)field = !value || yes_or_no(word, value);
    *given = source;
}

void options_free(options *o)
{
    for (int i = 0; i < ARRAY_LENGTH(rows); i++)
        clear(o, &rows[i]);
}

/* ---- the command line ---- */

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

/* Takes the option at argv[0], and its value; returns where the next word stands. */
static char **take(options *o, char **argv)
{
    const char *word = argv[0], *value;
    const option_row *row = find(word, &value);
    if (!row)
        quit(EXIT_USAGE, "unknown option %s (torcrun --help lists them)", word);
    if (row->at == offsetof(options, help))
        o->help_form = value;
    else if (!row->what && value)
        quit(EXIT_USAGE, "--%s takes no value, found %s", row->name, word);
    if (row->what && !value)
        value = *++argv;
    if (row->what && !value)
        quit(EXIT_USAGE, "%s needs a value: %s %s", word, word, row->what);
    store(o, row, SOURCE_FLAG, word, row->what ? value : NULL);
    return argv + 1;
}

/* ---- variables ---- */

/* --nproc-per-node is TORC_NPROC_PER_NODE. An empty variable is as good as none. */
static void read_variables(options *o)
{
    for (int i = 0; i < ARRAY_LENGTH(rows); i++) {
        char *name = base_format("TORC_%s", rows[i].name);
        for (char *c = name; *c; c++)
            *c = *c == '-' ? '_' : (char)toupper(*c);
        const char *value = getenv(name);
        if (value && *value && rows[i].kind != ROW_ACTION)
            store(o, &rows[i], SOURCE_VARIABLE, name, value);
        free(name);
    }
}

/* ---- the file ---- */

static char *trim(char *text)
{
    while (isspace((unsigned char)*text))
        text++;
    size_t n = strlen(text);
    while (n > 0 && isspace((unsigned char)text[n - 1]))
        text[--n] = 0;
    return text;
}

static const option_row *find_name(const char *name)
{
    for (int i = 0; i < ARRAY_LENGTH(rows); i++)
        if (!strcmp(rows[i].name, name))
            return rows[i].kind == ROW_ACTION ? NULL : &rows[i];
    return NULL;
}

static void read_line(options *o, const char *path, int number, char *line)
{
    char *name = trim(line), *equal = strchr(name, '=');
    if (!*name || *name == '#')
        return;
    if (!equal)
        quit(EXIT_USAGE, "%s:%d: not a line of name = value: \"%s\"", path, number, name);
    *equal = 0;
    const option_row *row = find_name(trim(name));
    if (!row)
        quit(EXIT_USAGE, "%s:%d: unknown option \"%s\"", path, number, name);
    char *word = base_format("%s:%d: %s", path, number, row->name);
    store(o, row, SOURCE_FILE, word, trim(equal + 1));
    free(word);
}

static void read_file(options *o, const char *path)
{
    FILE *f = fopen(path, "re");
    char *line = NULL;
    size_t room = 0;
    if (!f)
        quit(EXIT_USAGE, "cannot read --config %s: %s", path, strerror(errno));
    for (int number = 1; getline(&line, &room, f) >= 0; number++)
        read_line(o, path, number, line);
    if (ferror(f))
        quit(EXIT_USAGE, "cannot read --config %s: %s", path, strerror(errno));
    free(line);
    fclose(f);
}

/* ---- all of it ---- */

/* Two that say the same thing in two ways: the stronger source counts, and equal ones are a
 * contradiction. */
static void choose_hosts(options *o)
{
    if (!o->hosts || !o->hostfile)
        return;
    if (o->given.hosts == o->given.hostfile)
        quit(EXIT_USAGE, "--hosts and --hostfile both name the hosts: give one of them");
    const char **weaker = o->given.hosts > o->given.hostfile ? &o->hostfile : &o->hosts;
    free((char *)*weaker);
    *weaker = NULL;
}

options options_read(char **argv)
{
    options o = {
#define COUNT(field, letter, name, what, usual, low, high, meaning) .field = usual,
#include "launcher/options.def"
    };
    for (argv++; *argv && (*argv)[0] == '-' && (*argv)[1];) {
        if (!strcmp(*argv, "--")) {
            argv++;
            break;
        }
        argv = take(&o, argv);
    }
    o.program = argv;
    if (o.help || o.version) /* also where a variable or the file has a mistake in it */
        return o;
    read_variables(&o);
    if (o.config)
        read_file(&o, o.config);
    choose_hosts(&o);
    return o;
}
