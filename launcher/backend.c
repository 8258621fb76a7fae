/* backend -- see backend.h. */
#include "launcher/backend.h"

#include "launcher/program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const backend *const backends[] = {&backend_mpirun, &backend_srun};

const backend *backend_find(const char *name)
{
    for (int i = 0; i < ARRAY_LENGTH(backends); i++)
        if (!strcmp(backends[i]->name, name))
            return backends[i];
    return NULL;
}

/* ---- building ---- */

static void append(char ***list, int *count, char *word)
{
    *list = base_grow(*list, (size_t)*count + 2, sizeof **list);
    (*list)[(*count)++] = word;
    (*list)[*count] = NULL;
}

void command_word(command *c, const char *format, ...)
{
    text word = {0};
    va_list args;
    va_start(args, format);
    text_format_list(&word, format, args);
    va_end(args);
    append(&c->words, &c->word_count, word.bytes); /* text_format leaves a 0 behind what is used */
}

void command_setting(command *c, const char *name, const char *value)
{
    if (!getenv(name))
        append(&c->settings, &c->setting_count, base_format("%s=%s", name, value));
}

void command_set(command *c, const char *setting)
{
    append(&c->settings, &c->setting_count, base_strdup(setting));
}

/* NCCL takes names only; "=": all of the name. */
void command_network(command *c, const job *j)
{
    char *name = j->iface ? base_format("=%s", j->iface) : NULL;
    if (j->network)
        command_setting(c, "OMPI_MCA_btl_tcp_if_include", j->network);
    if (name)
        command_setting(c, "NCCL_SOCKET_IFNAME", name);
    free(name);
}

/* A bare NAME means its value here: it stands among the variables already. */
void command_env(command *c, const job *j)
{
    for (const char **setting = j->env; setting && *setting; setting++)
        if (strchr(*setting, '='))
            command_set(c, *setting);
}

void command_host_of_each(command *c, const job *j)
{
    text word = {0};
    for (int i = 0; i < j->hosts.n; i++)
        for (int k = 0; k < j->hosts.of[i].ranks; k++)
            text_format(&word, "%s%s", word.used ? "," : "", j->hosts.of[i].name);
    command_word(c, "%.*s", (int)word.used, word.bytes);
    text_free(&word);
}

/* mpirun takes the word ":" anywhere, also among a program's arguments, for the start of another
 * program. It travels as "\:", and so that this can be undone "\:" travels as "\\:". */
static bool is_colon(const char *word)
{
    return !strcmp(word + strspn(word, "\\"), ":");
}

void command_shim(command *c, const backend *b, const job *j)
{
    char *self = program_self();
    for (char **word = j->extra; word && *word; word++)
        command_word(c, "%s", *word);
    command_word(c, "%s", self);
    command_word(c, "--shim");
    command_word(c, "%s", b->name);
    for (char **word = j->program; *word; word++)
        command_word(c, "%s%s", is_colon(*word) ? "\\" : "", *word);
    free(self);
}

void command_restore(char *word)
{
    if (word[0] == '\\' && is_colon(word))
        memmove(word, word + 1, strlen(word));
}

void command_apply(const command *c)
{
    for (int i = 0; i < c->setting_count; i++) {
        char *setting = base_strdup(c->settings[i]), *value = strchr(setting, '=');
        *value++ = 0;
        setenv(setting, value, 1);
        free(setting);
    }
}

void command_print(const command *c, text *out)
{
    for (int i = 0; i < c->setting_count; i++) {
        const char *value = strchr(c->settings[i], '=') + 1;
        text_format(out, "%.*s", (int)(value - c->settings[i]), c->settings[i]);
        text_quote(out, value);
        text_format(out, " ");
    }
    for (int i = 0; i < c->word_count; i++) {
        text_format(out, i ? " " : "");
        text_quote(out, c->words[i]);
    }
    text_format(out, "\n");
}

void command_free(command *c)
{
    for (int i = 0; i < c->word_count; i++)
        free(c->words[i]);
    for (int i = 0; i < c->setting_count; i++)
        free(c->settings[i]);
    free(c->words);
    free(c->settings);
    *c = (command){0};
}
