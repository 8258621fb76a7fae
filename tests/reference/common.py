"""common -- what the scripts of this folder share: values that C can make too, and a C array.

Every weight and input is value(i, salt), a formula that tests/reference/compare.h repeats, so only
results are stored. PyTorch computes them in float64: what a float32 result is compared with is
exact to all digits that it has.
"""
import torch

torch.set_default_dtype(torch.float64)


def value(i, salt):
    """Element i of the tensor number `salt`: -0.99 to 0.99, no two of 199 neighbours alike."""
    return ((i * 37 + salt * 53 + 11) % 199 - 99) / 100


def values(shape, salt):
    n = torch.Size(shape).numel()
    exact = torch.tensor([value(i, salt) for i in range(n)], dtype=torch.float32)
    return exact.to(torch.float64).reshape(shape)


def header(script):
    print(f"/* Made by tests/reference/{script} with PyTorch {torch.__version__.split('+')[0]}. */")


def array(name, numbers):
    """static const double name[] = {...}; in lines of at most 100 columns."""
    numbers = [f"{x:.9g}" for x in numbers]
    print(f"static const double {name}[{len(numbers)}] = {{")
    line = "   "
    for x in numbers:
        if len(line) + len(x) + 2 > 98:
            print(line)
            line = "   "
        line += f" {x},"
    print(line)
    print("};")
