/* plan -- see plan.h. */
#include "launcher/plan.h"

#include "launcher/cores.h"
#include "launcher/devices.h"
#include "launcher/net.h"
#include "launcher/program.h"
#include "launcher/say.h"
#include "launcher/slurm.h"
#include "launcher/survive.h"
#include "launcher/words.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- hosts ---- */

static void add_this_host(hosts *all)
{
    char name[256] = "";
    gethostname(name, sizeof name - 1);
    if (!hosts_add(all, name, strlen(name), 0)) /* a name that is none: this one always works */
        hosts_add(all, "localhost", strlen("localhost"), 0);
}

hosts plan_hosts(const options *o)
{
    hosts all = {0};
    bool fine = true;
    if (o->hosts)
        fine = hosts_add_list(&all, o->hosts);
    else if (o->hostfile)
        fine = hosts_read_file(&all, o->hostfile);
    else if (slurm_is_here())
        fine = slurm_hosts(&all);
    else
        add_this_host(&all);
    if (!fine)
        quit(EXIT_USAGE, "%s", torc_last_error());
    return all;
}

/* ---- ranks ---- */

/* What --nproc-per-node can count, as a probe's facts. */
static const struct {
    const char *word, *thing;
    fact fact;
} countable[] = {{"auto", "core", FACT_CORES},
                 {"core", "core", FACT_CORES},
                 {"numa", "NUMA node", FACT_NODES},
                 {"gpu", "GPU", FACT_GPUS}};

static int find_countable(const char *word)
{
    int i = 0;
    while (i < ARRAY_LENGTH(countable) && strcmp(countable[i].word, word))
        i++;
    return i;
}

static int count_here(fact what)
{
    return what == FACT_CORES   ? cores_here().count
           : what == FACT_NODES ? devices_numa_nodes()
                                : devices_gpus();
}

/* A host says what it has. Hosts of a list without numbers, and without -n, are asked for cores. */
static bool must_ask(const options *o, const hosts *all, int which)
{
    bool open = which > 0;
    for (int i = 0; i < all->n; i++)
        open = open || (!o->ranks && !all->of[i].slots);
    return open && hosts_elsewhere(all);
}

static void take_count(host *h, const survey_host *s, const char *why, int which)
{
    if (which == 0 && h->slots) /* somebody has said it */
        return;
    if (!s->answered)
        quit(EXIT_LAUNCHER, "host %s does not tell how many %ss it has (--nproc-per-node N)%s%s",
             h->name, countable[which].thing, *why ? ": " : "", why);
    h->counted = atoi(s->facts.of[countable[which].fact]);
    if (h->counted == 0)
        quit(EXIT_USAGE, "--nproc-per-node gpu: there is no GPU on host %s", h->name);
}

static const double answer_seconds = 2;

static void leave_out(hosts *all, int i)
{
    say("host %s does not answer and is left out", all->of[i].name);
    free(all->of[i].name);
    memmove(&all->of[i], &all->of[i + 1], (size_t)(--all->n - i) * sizeof *all->of);
}

/* A host without power cannot be counted, and mpirun would start on none because of it. A job that
 * may have fewer hosts does without. */
static void leave_out_the_absent(hosts *all, const wish *w)
{
    const char **names = base_alloc((size_t)all->n, sizeof *names);
    bool *there = base_alloc((size_t)all->n, sizeof *there);
    for (int i = 0; i < all->n; i++)
        names[i] = all->of[i].name;
    net_answers(names, all->n, answer_seconds, there);
    for (int i = all->n - 1; i >= 0 && all->n > w->least; i--)
        if (!there[i] && !host_is_here(names[i]))
            leave_out(all, i);
    free(names);
    free(there);
}

/* Returns the most of a host. */
static int ask_hosts(const options *o, hosts *all, const wish *w, int which)
{
    survey s = {0};
    int most = 0;
    if (w->least > 0 && w->least < all->n)
        leave_out_the_absent(all, w);
    plan_survey(o, all, false, &s);
    for (int i = 0; i < all->n; i++) {
        take_count(&all->of[i], &s.of[i], s.why, which);
        most = (int)max_i64(most, all->of[i].counted);
    }
    survey_free(&s);
    return most;
}

/* Ranks on each host, 0 where nobody says; where hosts had to be asked, theirs are in .counted. */
static int ranks_per_host(const options *o, hosts *all, const wish *w)
{
    const char *text = o->per_host ? o->per_host : "auto";
    int which = find_countable(text);
    if (which < ARRAY_LENGTH(countable)) {
        bool ask = must_ask(o, all, which);
        if (ask && o->dry_run)
            say("%ss are counted on this host only: --dry-run asks no other",
                countable[which].thing);
        int n =
            ask && !o->dry_run ? ask_hosts(o, all, w, which) : count_here(countable[which].fact);
        if (n == 0)
            quit(EXIT_USAGE, "--nproc-per-node gpu: there is no GPU here");
        return which == 0 ? 0 : n;
    }
    char *end;
    long n = strtol(text, &end, 10);
    if (end == text || *end || n < 1 || n > 1000000)
        quit(EXIT_USAGE, "--nproc-per-node takes a number, auto, numa, core or gpu, not \"%s\"",
             text);
    return (int)n;
}

static int count_ranks(const hosts *all)
{
    int count = 0;
    for (int i = 0; i < all->n; i++)
        count += all->of[i].ranks;
    return count;
}

static void place(const options *o, plan *p)
{
    p->wish =
        (wish){.ranks = o->ranks, .cores = cores_here().count, .oversubscribe = o->oversubscribe};
    if (o->nnodes && !place_read_nnodes(o->nnodes, &p->wish))
        quit(EXIT_USAGE, "%s", torc_last_error());
    p->wish.per_host = ranks_per_host(o, &p->job.hosts, &p->wish);
    p->known = hosts_copy(&p->job.hosts);
    int code = place_ranks(&p->job.hosts, &p->wish);
    if (code)
        quit(code, "%s", torc_last_error());
    p->job.ranks = count_ranks(&p->job.hosts);
}

/* Of this host the cores are known, of another only what somebody said it has room for. */
static void notice_oversubscription(const options *o, job *j)
{
    int here = cores_here().count;
    for (int i = 0; i < j->hosts.n && !j->oversubscribed; i++) {
        const host *h = &j->hosts.of[i];
        bool mine = host_is_here(h->name);
        int room = mine ? here : h->counted ? h->counted : h->slots ? h->slots : here;
        j->oversubscribed = h->ranks > room;
        if (j->oversubscribed && !o->oversubscribe && !o->dry_run)
            say("%d ranks share %d core%s%s%s (--oversubscribe: no such notice)", h->ranks, room,
                room == 1 ? "" : "s", mine ? "" : " on host ", mine ? "" : h->name);
    }
}

/* ---- backend ---- */

static bool is_installed(const backend *b)
{
    char *path;
    bool found = program_find(b->name, &path) == 0;
    free(path);
    return found;
}

/* Inside a job of Slurm's that has other hosts than this one, srun reaches them. */
static const backend *choose_backend(const options *o, const job *j)
{
    const char *name = o->backend;
    if (!name || !strcmp(name, "auto"))
        return slurm_is_here() && j->remote && is_installed(&backend_srun) ? &backend_srun
                                                                           : &backend_mpirun;
    const backend *b = backend_find(name);
    if (!b)
        quit(EXIT_USAGE, "--backend is auto, mpirun or srun, not \"%s\"", name);
    if (b == &backend_srun && !slurm_is_here() && !o->hosts && !o->hostfile)
        quit(EXIT_LAUNCHER, "--backend srun: this is no job of Slurm's (salloc, sbatch), and no "
                            "--hosts say where else to run");
    return b;
}

static char **extra_words(const options *o, const backend *b)
{
    const char *all = b == &backend_srun ? o->srun_args : o->mpi_args;
    char **words = all ? words_split(all) : NULL;
    if (all && !words)
        quit(EXIT_USAGE, "--%s-args: %s", b == &backend_srun ? "srun" : "mpi", torc_last_error());
    return words;
}

static void check_env(const char **env)
{
    for (; env && *env; env++) {
        size_t n = strcspn(*env, "=");
        char *name = base_format("%.*s", (int)n, *env);
        if (n == 0)
            quit(EXIT_USAGE, "--env takes NAME or NAME=VALUE, not \"%s\"", *env);
        if (!(*env)[n] && !getenv(name))
            quit(EXIT_USAGE, "--env %s: this variable is not set here", name);
        free(name);
    }
}

/* ---- address ---- */

static const char *first_remote(const hosts *all)
{
    for (int i = 0; i < all->n; i++)
        if (!host_is_here(all->of[i].name))
            return all->of[i].name;
    return NULL;
}

static void find_address(const options *o, job *j)
{
    char address[NET_ADDRESS_SIZE], network[NET_NETWORK_SIZE];
    const char *iface = j->remote ? o->iface : NULL; /* on one host nothing leaves it */
    if (!net_address(iface, first_remote(&j->hosts), address))
        quit(iface ? EXIT_USAGE : EXIT_FEW_HOSTS, "%s", torc_last_error());
    j->address = base_strdup(address);
    j->iface = iface;
    if (iface && net_network(address, network))
        j->network = base_strdup(network);
}

/* ---- all of it ---- */

plan plan_make(const options *o)
{
    plan p = {.job = {.hosts = plan_hosts(o), .program = o->program, .env = o->env}};
    check_env(o->env);
    place(o, &p);
    p.job.remote = hosts_elsewhere(&p.job.hosts);
    p.backend = choose_backend(o, &p.job);
    p.job.extra = extra_words(o, p.backend);
    find_address(o, &p.job);
    notice_oversubscription(o, &p.job);
    return p;
}

bool plan_again(plan *p, const bool *gone)
{
    int ranks = survive(&p->job.hosts, &p->known, gone, &p->wish);
    if (ranks == 0)
        return false;
    p->job.ranks = ranks;
    p->job.remote = hosts_elsewhere(&p->job.hosts);
    return true;
}

/* Starting ranks may take longer, on hosts that are busy; asking is not worth it. */
static const double survey_seconds = 20;

void plan_survey(const options *o, const hosts *all, bool streams, survey *s)
{
    static char word[] = PROBE_WORD, *program[] = {word, NULL};
    job j = {.hosts = hosts_copy(all), .ranks = all->n, .program = program, .env = o->env};
    for (int i = 0; i < all->n; i++)
        j.hosts.of[i].ranks = 1;
    j.remote = hosts_elsewhere(all);
    const backend *b = choose_backend(o, &j);
    j.extra = extra_words(o, b);
    find_address(o, &j);
    survey_run(s, b, &j, fmin(o->start_timeout, survey_seconds), streams);
    plan_free(&(plan){.job = j});
}

void plan_free(plan *p)
{
    free((char *)p->job.address);
    free((char *)p->job.network);
    words_free(p->job.extra);
    hosts_free(&p->job.hosts);
    hosts_free(&p->known);
}

const host *plan_host(const job *j, int rank)
{
    const host *h = j->hosts.of;
    while (rank >= h->ranks)
        rank -= h++->ranks;
    return h;
}
