"""optimizers -- 100 steps of torch.optim's rules on a quadratic, for tests/test_optimizer.c.

    python tests/reference/optimizers.py > tests/reference/optimizers.h

Two parameters a [3] and b [2, 2]; the gradient of element i of all seven is c_i (p_i - t_i) with
c_i = 0.5 + 0.25 i and t_i = value(i, 9). Stored are the seven after steps 1, 10 and 100. In the
cases "late", b has no gradient before step 6.
"""
import torch

import common

STEPS = (1, 10, 100)


def run(make, late=0):
    a, b = (torch.nn.Parameter(common.values(s, k)) for k, s in enumerate([(3,), (2, 2)]))
    c = 0.5 + 0.25 * torch.arange(7)
    t = common.values((7,), 9)
    opt, found = make([a, b]), []
    for step in range(1, STEPS[-1] + 1):
        g = c * (torch.cat([a.detach(), b.detach().flatten()]) - t)
        a.grad = g[:3].clone()
        b.grad = g[3:].reshape(2, 2).clone() if step > late else None
        opt.step()
        if step in STEPS:
            found += a.tolist() + b.flatten().tolist()
    return found


def sgd(**options):
    return lambda p: torch.optim.SGD(p, lr=0.05, **options)


def adam(rule, **options):
    return lambda p: rule(p, lr=0.02, **options)


common.header("optimizers.py")
common.array("ref_sgd_plain", run(sgd()))
common.array("ref_sgd_decay", run(sgd(weight_decay=0.1)))
common.array("ref_sgd_momentum", run(sgd(momentum=0.9)))
common.array("ref_sgd_dampening", run(sgd(momentum=0.9, dampening=0.5, weight_decay=0.01)))
common.array("ref_sgd_nesterov", run(sgd(momentum=0.9, nesterov=True, weight_decay=0.01)))
common.array("ref_sgd_late", run(sgd(momentum=0.9, dampening=0.5), late=5))
common.array("ref_adam_plain", run(adam(torch.optim.Adam)))
common.array("ref_adam_decay", run(adam(torch.optim.Adam, weight_decay=0.1)))
common.array("ref_adam_late", run(adam(torch.optim.Adam), late=5))
common.array("ref_adamw_plain", run(adam(torch.optim.AdamW)))
other = dict(betas=(0.8, 0.95), eps=1e-3, weight_decay=0.2)
common.array("ref_adamw_betas", run(adam(torch.optim.AdamW, **other)))
