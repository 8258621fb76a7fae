/* json_put -- see json_put.h. */
#include "launcher/json_put.h"

#include <math.h>
#include <string.h>

/* ---- strings ---- */

/* The length of the UTF-8 character at `s`, 0 where there is none (RFC 3629: no longer forms than
 * needed, no surrogates, nothing above U+10FFFF). */
static size_t character(const unsigned char *s, size_t n)
{
    static const struct {
        unsigned char low, high, second_low, second_high;
        size_t length;
    } forms[] = {
        {0x00, 0x7f, 0, 0, 1},       {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
        {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
        {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4}};
    for (int i = 0; i < ARRAY_LENGTH(forms); i++) {
        size_t length = forms[i].length;
        if (s[0] < forms[i].low || s[0] > forms[i].high)
            continue;
        bool whole = length <= n;
        for (size_t k = 1; whole && k < length; k++)
            whole = s[k] >= (k == 1 ? forms[i].second_low : 0x80) &&
                    s[k] <= (k == 1 ? forms[i].second_high : 0xbf);
        return whole ? length : 0;
    }
    return 0;
}

static void quote(text *t, const char *bytes, size_t n)
{
    const unsigned char *s = (const unsigned char *)bytes;
    text_add(t, "\"", 1);
    while (n > 0) {
        size_t length = character(s, n);
        if (length == 0)
            text_add(t, "\xef\xbf\xbd", 3);
        else if (*s == '"' || *s == '\\')
            text_format(t, "\\%c", *s);
        else if (*s < 0x20)
            text_format(t, "\\u%04x", *s);
        else
            text_add(t, (const char *)s, length);
        s += length ? length : 1;
        n -= length ? length : 1;
    }
    text_add(t, "\"", 1);
}

/* ---- values ---- */

static void begin(text *t, const char *name)
{
    char last = t->used ? t->bytes[t->used - 1] : '{';
    if (last != '{' && last != '[')
        text_add(t, ", ", 2);
    if (!name)
        return;
    quote(t, name, strlen(name));
    text_add(t, ": ", 2);
}

void json_put_open(text *t, const char *name, char bracket)
{
    begin(t, name);
    text_add(t, &bracket, 1);
}

void json_put_close(text *t, char bracket)
{
    text_add(t, &bracket, 1);
}

void json_put_int(text *t, const char *name, int64_t value)
{
    begin(t, name);
    text_format(t, "%lld", (long long)value);
}

void json_put_bool(text *t, const char *name, bool value)
{
    begin(t, name);
    text_format(t, value ? "true" : "false");
}

void json_put_seconds(text *t, const char *name, double value)
{
    begin(t, name);
    text_format(t, "%.3f", value);
}

void json_put_number(text *t, const char *name, double value)
{
    if (!isfinite(value)) {
        json_put_null(t, name);
        return;
    }
    begin(t, name);
    text_format(t, "%.12g", value);
}

void json_put_null(text *t, const char *name)
{
    begin(t, name);
    text_format(t, "null");
}

void json_put_bytes(text *t, const char *name, const char *bytes, size_t n)
{
    begin(t, name);
    quote(t, bytes, n);
}

void json_put_string(text *t, const char *name, const char *value)
{
    json_put_bytes(t, name, value, strlen(value));
}
