/*
 * torcrun -- starts a program on several ranks.
 *
 *     torcrun            supervisor.c: the exit code, the terminal, Ctrl-C
 *       mpirun or srun   a backend, backend_*.c: processes on hosts
 *         torcrun --shim shim.c, once per rank: the program's true end, its stderr
 *           program
 */
#include "launcher/cores.h"
#include "launcher/options.h"
#include "launcher/plan.h"
#include "launcher/program.h"
#include "launcher/say.h"
#include "launcher/shim.h"
#include "launcher/supervisor.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A descriptor 0, 1 or 2 that is closed would become some pipe of ours, and then a child's. */
static void open_standard_descriptors(void)
{
    int fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO)
        fd = dup(fd);
    if (fd > STDERR_FILENO)
        close(fd);
}

static void must_find(const char *program)
{
    char *path;
    int code = program_find(program, &path);
    if (code)
        quit(code, "%s", torc_last_error());
    free(path);
}

static void show(const plan *p, const command *c)
{
    text out = {0};
    cores here = cores_here();
    command_print(c, &out);
    text_format(&out, "\n%-6s %-20s %s\n", "rank", "host", "cores");
    for (int r = 0; r < p->job.ranks; r++) {
        const char *name = plan_host(&p->job, r)->name;
        text_format(&out, "%-6d %-20s %s\n", r, name, host_is_here(name) ? here.list : "all");
    }
    say_bytes(STDOUT_FILENO, out.bytes, out.used);
    text_free(&out);
}

static int launch(const options *o)
{
    plan p = plan_make(o);
    command c = {0};
    int code = 0;
    p.backend->build(&p.job, &c);
    if (o->dry_run)
        show(&p, &c);
    else
        code = supervise(&p, &c, o);
    command_free(&c);
    plan_free(&p);
    return code;
}

int main(int argc, char **argv)
{
    open_standard_descriptors();
    if (argc > 1 && !strcmp(argv[1], "--shim"))
        shim_main(argv + 2);
    options o = options_read(argv);
    if (o.help) {
        options_help();
        return 0;
    }
    if (o.version) {
        printf("torcrun " TORC_VERSION "\n");
        return 0;
    }
    if (!o.program[0])
        quit(EXIT_USAGE, "no program given: torcrun [options] program [arguments]");
    must_find(o.program[0]);
    int code = launch(&o);
    options_free(&o);
    return code;
}
