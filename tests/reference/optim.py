"""optim -- prints optim.h: where PyTorch's optimizers are after 100 steps.

    python3 tests/reference/optim.py > tests/reference/optim.h

The problem is f(p) = sum((p - c)^4 / 4 + (p - c)^2 / 20) over three parameters of 1, 7 and 300
elements. Starts and centres are multiples of 1/32, exact in float32, and bowl.h has the same
formulas. PyTorch computes in float64, so that every digit stored is right.
"""
import textwrap

import torch

torch.set_default_dtype(torch.float64)
SIZES = (1, 7, 300)
STEPS = 100
CASES = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05),
    "sgd_momentum": lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9),
    "sgd_nesterov": lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9, nesterov=True),
    "sgd_decay": lambda p: torch.optim.SGD(p, lr=0.05, weight_decay=0.1),
    "sgd_dampening": lambda p: torch.optim.SGD(
        p, lr=0.05, momentum=0.8, dampening=0.5, weight_decay=0.01),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "adam_decay": lambda p: torch.optim.Adam(
        p, lr=0.01, betas=(0.8, 0.99), eps=1e-4, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01),
    "adamw_decay": lambda p: torch.optim.AdamW(p, lr=0.01, betas=(0.8, 0.99), weight_decay=0.5),
}


def start(i):
    return (i * 37 % 61 - 30) / 16


def centre(i):
    return (i * 11 % 29 - 14) / 32


def descend(make):
    """The parameters, one after the other, after STEPS steps."""
    p = [torch.nn.Parameter(torch.tensor([start(i) for i in range(n)])) for n in SIZES]
    c = [torch.tensor([centre(i) for i in range(n)]) for n in SIZES]
    optimizer = make(p)
    for _ in range(STEPS):
        optimizer.zero_grad()
        sum(((a - b) ** 4 / 4 + (a - b) ** 2 / 20).sum() for a, b in zip(p, c)).backward()
        optimizer.step()
    return torch.cat([a.detach() for a in p]).tolist()


def main():
    print(f"/* optim -- {sum(SIZES)} parameters after {STEPS} steps of each optimizer of PyTorch")
    print(f" * {torch.__version__.split('+')[0]}; printed by optim.py, which tells of what. */")
    print("/* clang-format off */")
    for name, make in CASES.items():
        texts = [f"{v:.9g}" for v in descend(make)]
        print(f"static const double after_{name}[] = {{")
        print(textwrap.indent(textwrap.fill(", ".join(texts), 90), "    "))
        print("};")


main()
