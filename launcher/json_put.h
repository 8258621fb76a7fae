/*
 * json_put -- JSON written piece by piece: json_put_open(t, NULL, '{'), what is in it,
 * json_put_close(t, '}').
 *
 * `name` is that of a member, or NULL in an array and at the outermost. Commas come by themselves.
 */
#ifndef LAUNCHER_JSON_PUT_H
#define LAUNCHER_JSON_PUT_H

#include "launcher/text.h"

void json_put_open(text *t, const char *name, char bracket); /* { or [ */
void json_put_close(text *t, char bracket);
void json_put_int(text *t, const char *name, int64_t value);
void json_put_bool(text *t, const char *name, bool value);
void json_put_seconds(text *t, const char *name, double value); /* to the millisecond */
void json_put_number(text *t, const char *name, double value);  /* null where it is none */
void json_put_null(text *t, const char *name);
/* Any bytes: those that are no UTF-8 become U+FFFD, each. */
void json_put_bytes(text *t, const char *name, const char *bytes, size_t n);
void json_put_string(text *t, const char *name, const char *value);

#endif
