/*
 * torcrun -- starts a program on several ranks.
 *
 *     torcrun            attempts.c: again after a failure; the exit code
 *                        supervisor.c: one attempt; the terminal, Ctrl-C
 *       mpirun or srun   a backend, backend_*.c: processes on hosts
 *         torcrun --shim shim.c, once per rank: the program's true end, its stderr
 *           program
 */
#include "launcher/attempts.h"
#include "launcher/bind.h"
#include "launcher/cores.h"
#include "launcher/doctor.h"
#include "launcher/manual.h"
#include "launcher/options.h"
#include "launcher/plan.h"
#include "launcher/program.h"
#include "launcher/say.h"
#include "launcher/shim.h"
#include "launcher/slurm.h"
#include "launcher/terminal.h"
#include "launcher/top.h"

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

static void show(const plan *p)
{
    command c = {0};
    text out = {0};
    cores here = cores_here();
    p->backend->build(&p->job, &c);
    command_print(&c, &out);
    command_free(&c);
    text_format(&out, "\n%-6s %-20s %s\n", "rank", "host", "cores");
    for (int r = 0; r < p->job.ranks; r++) {
        const char *name = plan_host(&p->job, r)->name;
        text_format(&out, "%-6d %-20s %s\n", r, name, host_is_here(name) ? here.list : "all");
    }
    say_bytes(STDOUT_FILENO, out.bytes, out.used);
    text_free(&out);
}

/* The shims read the variables of these options. */
static void hand_on_binding(const options *o)
{
    bind_how how;
    if (o->bind && !bind_how_read(o->bind, &how))
        quit(EXIT_USAGE, "--bind is none, numa, cores or auto, not \"%s\"", o->bind);
    if (o->bind)
        setenv(BIND_VARIABLE, o->bind, 1);
    unsetenv(BIND_REPORT_VARIABLE); /* it may say no */
    if (o->report_binding)
        setenv(BIND_REPORT_VARIABLE, "yes", 1);
}

static int examine(const options *o)
{
    hosts all = plan_hosts(o), reached = {0};
    findings found = {0};
    const char *agent = getenv("OMPI_MCA_plm_rsh_agent");
    doctor_look_around(&found);
    doctor_reach(&found, &all, agent ? agent : "ssh", slurm_is_here(), &reached);
    if (hosts_elsewhere(&reached)) {
        survey s = {0};
        plan_survey(o, &reached, true, &s);
        survey_add_this_host(&s);
        doctor_hosts(&found, &s);
        survey_free(&s);
    }
    int code = doctor_tell(&found, o->json_events && !strcmp(o->json_events, "-"));
    findings_free(&found);
    hosts_free(&reached);
    hosts_free(&all);
    return code;
}

static int launch(const options *o)
{
    hand_on_binding(o);
    plan p = plan_make(o);
    int code = 0;
    if (o->dry_run)
        show(&p);
    else {
        terminal_start();
        code = attempts_run(&p, o);
    }
    plan_free(&p);
    return code;
}

static int tell_help(const options *o)
{
    if (!manual_print(o->help_form))
        quit(EXIT_USAGE, "--help=%s: there is man and bash", o->help_form);
    return 0;
}

static int tell_version(void)
{
    printf("torcrun " TORC_VERSION "\n");
    return 0;
}

static int obey(const options *o)
{
    if (o->help)
        return tell_help(o);
    if (o->version)
        return tell_version();
    if (o->doctor)
        return examine(o);
    if (o->top)
        return top_main(o->program);
    if (!o->program[0])
        quit(EXIT_USAGE, "no program given: torcrun [options] program [arguments]");
    must_find(o->program[0]);
    return launch(o);
}

int main(int argc, char **argv)
{
    open_standard_descriptors();
    if (argc > 1 && !strcmp(argv[1], "--shim"))
        shim_main(argv + 2);
    options o = options_read(argv);
    int code = obey(&o);
    options_free(&o);
    return code;
}
