/* loss_scale -- see loss_scale.h. */
#include "core/loss_scale.h"

#include "core/kernels.h"
#include "core/optim/optimizer.h"

#include <stdio.h>

#define HOPELESS 20 /* of such steps are told */

/* torch.amp.GradScaler's. */
static const scale_rule usual = {.growth = 2, .backoff = 0.5f, .interval = 2000};
static const loss_scale usual_start = {.scale = 65536};

static struct scaler {
    bool decided;     /* by torc_set_loss_scale(): torc_autocast() has no say */
    bool asked;       /* there shall be one */
    storage *state;   /* a loss_scale, of the last gradients; NULL: they have none */
    loss_scale start; /* what the next one begins with; 0: as usual */
    bool fresh;       /* that is not in `state` yet */
    scale_rule rule;
    bool open;    /* a backward has begun since the last step: the scale stays */
    bool stepped; /* since the last backward that could change it, there was a step */
    bool paused;
    int hopeless; /* steps skipped in a row at a scale that falls no further */
} scaler;

/* ---- on and off ---- */

static void refuse_in_backward(const call *c)
{
    if (optimizer_any_in_backward())
        call_die(c, "expected no optimizer with .in_backward: it updates before the gradients are "
                    "known to be finite, so it has no loss scale");
}

static void let_go_of_state(void)
{
    if (scaler.state)
        storage_release(scaler.state);
    scaler.state = NULL;
}

void loss_scale_wanted(const call *c)
{
    if (scaler.decided || scaler.asked)
        return;
    refuse_in_backward(c);
    scaler.rule = usual;
    if (scaler.start.scale == 0) /* else it is a checkpoint's */
        scaler.start = usual_start;
    scaler.asked = scaler.fresh = true;
}

bool loss_scale_expected(void)
{
    return scaler.asked;
}

loss_scale *loss_scale_here(void)
{
    return scaler.state ? scaler.state->data : NULL;
}

/* value, or `other` where it was left out. */
static float checked(const call *c, const char *name, float value, float other, float low,
                     float high)
{
    if (value == 0)
        return other;
    if (!(value >= low && value <= high))
        call_die(c, "expected %s from %g to %g, found %g", name, (double)low, (double)high,
                 (double)value);
    return value;
}

static scale_rule rule_of(const call *c, torc_loss_scale_options o)
{
    if (o.interval < 0)
        call_die(c, "expected .interval of 1 or more, found %lld", (long long)o.interval);
    return (scale_rule){
        .growth = checked(c, ".growth", o.growth, usual.growth, 1, 0x1p16f),
        .backoff = checked(c, ".backoff", o.backoff, usual.backoff, 0x1p-16f, 1),
        .interval = o.interval ? o.interval : usual.interval,
    };
}

static bool is_fixed(void)
{
    return scaler.rule.growth == 1 && scaler.rule.backoff == 1;
}

void torc_set_loss_scale(torc_site at, torc_loss_scale_options o)
{
    const call c = {at, __func__};
    float low = LOSS_SCALE_LEAST, high = LOSS_SCALE_MOST;
    float initial = checked(&c, ".initial", o.initial, usual_start.scale, low, high);
    float fixed = checked(&c, ".fixed", o.fixed, 0, low, high);
    if (!o.off)
        refuse_in_backward(&c);
    scaler.rule = rule_of(&c, o);
    if (fixed != 0)
        scaler.rule.growth = scaler.rule.backoff = 1;
    scaler.start = (loss_scale){.scale = fixed != 0 ? fixed : initial};
    scaler.decided = true;
    scaler.asked = scaler.fresh = !o.off;
    scaler.open = scaler.stepped = false;
    scaler.hopeless = 0;
}

/* ---- a step ---- */

static void begin_afresh(void)
{
    if (!scaler.state)
        scaler.state = storage_new(sizeof scaler.start);
    device_current()->from_host(scaler.state->data, &scaler.start, sizeof scaler.start);
    scaler.fresh = false;
}

void loss_scale_begin(void)
{
    if (scaler.paused || scaler.open)
        return;
    scaler.open = true;
    if (!scaler.asked) /* any more; not sooner, for a step may have had need of it */
        let_go_of_state();
    if (scaler.fresh)
        begin_afresh();
    if (scaler.state && scaler.stepped)
        kernels_here()->rescale(scaler.state->data, scaler.rule);
    scaler.stepped = false;
}

void loss_scale_seed(tensor *g, double weight)
{
    if (!scaler.state || scaler.paused) {
        kernels_here()->fill(g, weight);
        return;
    }
    const tensor *in[] = {g};
    tensor scale = *g;
    scale.dtype = TORC_F32;
    scale.store = scaler.state;
    scale.offset = 0;
    kernels_here()->copy(g, &scale);
    if (weight != 1)
        kernels_here()->elementwise(EW_mul_scalar, g, 1, in, weight, 0, false);
}

void loss_scale_stepped(void)
{
    scaler.open = false;
    scaler.stepped = scaler.state != NULL;
}

/* Of a step that is skipped the factor is 1 / scale. */
void loss_scale_learn(const clipping *c)
{
    bool least = c->factor >= 1 / LOSS_SCALE_LEAST, stays = scaler.rule.backoff == 1;
    scaler.hopeless = c->skip && (least || stays) ? scaler.hopeless + 1 : 0;
    if (scaler.hopeless == HOPELESS && base_world()->rank == 0)
        log_line(LOG_WARN,
                 "%d steps in a row were skipped at a loss scale of %g: gradients are infinite or "
                 "NaN, %s",
                 HOPELESS, 1 / (double)c->factor,
                 least ? "and a smaller scale would not help; look for it in the model or its input"
                       : "and this scale does not fall by itself; try a smaller one");
}

void loss_scale_pause(bool on)
{
    scaler.paused = on;
}

/* ---- asking ---- */

static loss_scale state_on_host(void)
{
    loss_scale s = scaler.start;
    if (scaler.state && !scaler.fresh)
        device_current()->to_host(&s, scaler.state->data, sizeof s);
    return s;
}

double torc_loss_scale(void)
{
    if (!scaler.asked || (scaler.open && !scaler.state)) /* asked for amid gradients without */
        return 1;
    loss_scale s = state_on_host();
    if (scaler.stepped && !scaler.open) /* as the next backward will */
        kernels_of_host()->rescale(&s, scaler.rule);
    return (double)s.scale;
}

bool loss_scale_save(loss_scale_saved *out)
{
    *out = (loss_scale_saved){state_on_host(), scaler.stepped};
    return scaler.asked;
}

void loss_scale_restore(const loss_scale_saved *from)
{
    if (is_fixed() || (scaler.decided && !scaler.asked))
        return;
    scaler.start = from->state;
    scaler.fresh = scaler.asked;
    scaler.stepped = from->stepped;
    scaler.open = false;
}

void loss_scale_describe(char *text, size_t size)
{
    const scale_rule *r = &scaler.rule;
    if (!scaler.decided)
        snprintf(text, size, "loss scale as usual");
    else if (!scaler.asked)
        snprintf(text, size, "no loss scale");
    else if (is_fixed())
        snprintf(text, size, "loss scale of %g", (double)scaler.start.scale);
    else
        snprintf(text, size,
                 "loss scale from %g, times %g after %lld steps, %g after a skipped one",
                 (double)scaler.start.scale, (double)r->growth, (long long)r->interval,
                 (double)r->backoff);
}

void loss_scale_forget(void)
{
    let_go_of_state();
    scaler = (struct scaler){0};
}
