/* manual -- see manual.h. */
#include "launcher/manual.h"

#include "launcher/options.h"
#include "launcher/say.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

typedef struct manual_row {
    const char *name, *what, *meaning; /* what: NULL where the option takes no value */
    char letter;
} manual_row;

static const manual_row rows[] = {
#define FLAG(field, letter, name, meaning) {name, NULL, meaning, letter},
#define COUNT(field, letter, name, what, usual, low, high, meaning) {name, what, meaning, letter},
#define TEXT(field, letter, name, what, meaning) {name, what, meaning, letter},
#define LIST(field, letter, name, what, meaning) {name, what, meaning, letter},
#define ACTION(field, letter, name, meaning) {name, NULL, meaning, letter},
#include "launcher/options.def"
};

typedef struct manual_code {
    int code;
    const char *meaning;
} manual_code;

#define ROW(name, code, meaning) {code, meaning},
static const manual_code codes[] = {EXIT_CODES(ROW)};
#undef ROW

static const char about[] =
    "Starts a program on several ranks, shows what they print, and ends them together.";
static const char sources[] =
    "Each option but the last four can also stand in a variable (--nnodes: TORC_NNODES) or\n"
    "in the --config file; the command line is stronger than both, the variable than the file.\n";
static const char signals[] =
    "SIGUSR1 asks the ranks to save and leave at the end of a step, with exit code 75; so do\n"
    "SIGTERM and SIGINT, but --grace seconds later the ranks are ended; a second one does so at\n"
    "once.\n";
static const char streams[] =
    "Standard input goes to rank 0. Lines on standard error carry [host:rank] in front.\n"
    "What Open MPI is told in variables OMPI_MCA_... is left as you set it.\n";

/* ---- the terminal ---- */

static void print_plain(void)
{
    printf("torcrun [options] [--] program [arguments]\n\n%s\n\n", about);
    for (int i = 0; i < ARRAY_LENGTH(rows); i++) {
        const manual_row *row = &rows[i];
        char left[64], letter[8] = "    ";
        if (row->letter)
            snprintf(letter, sizeof letter, "-%c, ", row->letter);
        snprintf(left, sizeof left, "%s--%s%s%s", letter, row->name, row->what ? " " : "",
                 row->what ? row->what : "");
        if (strlen(left) <= 28)
            printf("  %-28s %s\n", left, row->meaning);
        else
            printf("  %s\n%31s%s\n", left, "", row->meaning);
    }
    printf("\n%s\nExit code: that of the first rank that failed, else 0; or\n", sources);
    for (int i = 0; i < ARRAY_LENGTH(codes); i++)
        printf("  %-6d %s\n", codes[i].code, codes[i].meaning);
    printf("\n%s\n%s", signals, streams);
}

/* ---- troff ---- */

/* A line of troff must not begin with a dot or a quote; a dash is a hyphen unless it is told
 * otherwise, and a backslash is its own. */
static void print_troff(const char *words)
{
    bool starts = true;
    for (const char *c = words; *c; c++) {
        if (starts && (*c == '.' || *c == '\''))
            printf("\\&");
        if (*c == '-')
            printf("\\-");
        else if (*c == '\\')
            printf("\\e");
        else
            putchar(*c);
        starts = *c == '\n';
    }
}

static void print_section(const char *title, const char *words)
{
    printf(".SH %s\n", title);
    print_troff(words);
}

static void print_man(void)
{
    printf(".TH TORCRUN 1 \"\" \"torc " TORC_VERSION "\" \"User Commands\"\n"
           ".SH NAME\ntorcrun \\- start a program on several ranks\n"
           ".SH SYNOPSIS\n.B torcrun\n[options] [\\-\\-] program [arguments]\n");
    print_section("DESCRIPTION", about);
    printf("\n.SH OPTIONS\n");
    for (int i = 0; i < ARRAY_LENGTH(rows); i++) {
        const manual_row *row = &rows[i];
        printf(".TP\n");
        if (row->letter)
            printf("\\fB\\-%c\\fR, ", row->letter);
        printf("\\fB");
        print_troff("--");
        print_troff(row->name);
        printf("\\fR");
        if (row->what)
            printf(" \\fI");
        print_troff(row->what ? row->what : "");
        printf(row->what ? "\\fR\n" : "\n");
        print_troff(row->meaning);
        printf("\n");
    }
    printf(".PP\n");
    print_troff(sources);
    printf(".SH EXIT STATUS\nThat of the first rank that failed, else 0; or\n");
    for (int i = 0; i < ARRAY_LENGTH(codes); i++) {
        printf(".TP\n.B %d\n", codes[i].code);
        print_troff(codes[i].meaning);
        printf("\n");
    }
    print_section("SIGNALS", signals);
    print_section("STANDARD STREAMS", streams);
}

/* ---- bash ---- */

/* "auto|mpirun|srun" is a choice; "N|auto" is one with a number among it, "FILE|-" none at all. */
static bool is_choice(const char *what)
{
    bool lower = false;
    for (const char *c = what; *c; c++)
        lower = lower || islower((unsigned char)*c);
    return lower && strchr(what, '|');
}

static void print_choices(const char *what)
{
    for (const char *at = what; *at; at += strcspn(at, "|"), at += *at == '|') {
        int n = (int)strcspn(at, "|");
        if (islower((unsigned char)*at))
            printf(" %.*s", n, at);
    }
}

static bool takes_file(const char *what)
{
    return !strncmp(what, "FILE", 4);
}

static void print_bash_values(void)
{
    printf("    case $previous in\n");
    for (int i = 0; i < ARRAY_LENGTH(rows); i++) {
        const manual_row *row = &rows[i];
        if (!row->what)
            continue;
        printf(row->letter ? "        --%s|-%c)" : "        --%s)", row->name, row->letter);
        if (is_choice(row->what)) {
            printf(" COMPREPLY=($(compgen -W '");
            print_choices(row->what);
            printf("' -- \"$word\"));");
        } else if (takes_file(row->what) || !strcmp(row->what, "DIR")) {
            printf(" COMPREPLY=($(compgen -%c -- \"$word\"));", takes_file(row->what) ? 'f' : 'd');
        }
        printf(" return ;;\n");
    }
    printf("    esac\n");
}

/* Words that are no options: the program, and files for it. */
static void print_bash(void)
{
    printf("# bash completion for torcrun; made by torcrun --help=bash\n"
           "_torcrun()\n{\n"
           "    local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]}\n"
           "    COMPREPLY=()\n");
    print_bash_values();
    printf("    if [[ $word == -* ]]; then\n        COMPREPLY=($(compgen -W '");
    for (int i = 0; i < ARRAY_LENGTH(rows); i++)
        printf("%s--%s", i ? " " : "", rows[i].name);
    printf("' -- \"$word\"))\n"
           "    else\n        COMPREPLY=($(compgen -c -f -- \"$word\"))\n    fi\n}\n"
           "complete -o filenames -F _torcrun torcrun\n");
}

bool manual_print(const char *form)
{
    if (!form)
        print_plain();
    else if (!strcmp(form, "man"))
        print_man();
    else if (!strcmp(form, "bash"))
        print_bash();
    else
        return false;
    return true;
}
