/* words -- see words.h. */
#include "launcher/words.h"

#include "launcher/text.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* Takes what stands between quotes at `at`, which is a quote; returns where it ends, or NULL. */
static const char *take_quoted(const char *at, text *word)
{
    char quote = *at++;
    for (; *at && *at != quote; at++) {
        if (quote == '"' && *at == '\\' && (at[1] == '"' || at[1] == '\\'))
            at++;
        text_add(word, at, 1);
    }
    return *at ? at + 1 : NULL;
}

/* Takes one word, which begins at `at`; returns where it ends, or NULL. */
static const char *take_word(const char *at, text *word)
{
    while (at && *at && !isspace((unsigned char)*at)) {
        if (*at == '\'' || *at == '"') {
            at = take_quoted(at, word);
            continue;
        }
        if (*at == '\\' && at[1])
            at++;
        text_add(word, at++, 1);
    }
    return at;
}

char **words_split(const char *all)
{
    char **words = base_alloc(1, sizeof *words);
    const char *at = all;
    for (int n = 0;; n++) {
        while (isspace((unsigned char)*at))
            at++;
        if (!*at)
            return words;
        text word = {0};
        at = take_word(at, &word);
        text_add(&word, "", 1); /* now it is a C string */
        words = base_grow(words, (size_t)n + 2, sizeof *words);
        words[n] = word.bytes;
        words[n + 1] = NULL;
        if (!at)
            break;
    }
    words_free(words);
    fail(TORC_ERR_IO, "a quote is not closed: %s", all);
    return NULL;
}

void words_free(char **words)
{
    for (int i = 0; words && words[i]; i++)
        free(words[i]);
    free(words);
}
