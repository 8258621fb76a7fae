"""layers -- torch.nn's layers forward and backward, for tests/test_layers.c and test_transformer.c.

    python tests/reference/layers.py > tests/reference/layers.h

Parameter k of a layer is values(shape, k), the input values(shape, 20), and what is differentiated
is the sum of y * values(y.shape, 21). An array holds y, then the gradients of the input (where it
has one) and of the parameters in their order.
"""
import torch
import torch.nn.functional as F
from torch import nn

import common


def fill(layer):
    with torch.no_grad():
        for k, p in enumerate(layer.parameters()):
            p.copy_(common.values(p.shape, k))
    return layer


def run(layer, x):
    """y and all gradients, end to end."""
    fill(layer)
    y = layer(x)
    (y * common.values(y.shape, 21)).sum().backward()
    grads = ([x.grad] if x.requires_grad else []) + [p.grad for p in layer.parameters()]
    return torch.cat([t.detach().flatten() for t in [y] + grads]).tolist()


def data(*shape):
    return common.values(shape, 20).requires_grad_()


class Attention(nn.Module):
    """GPT-2's causal self-attention."""

    def __init__(self, width, heads):
        super().__init__()
        self.c_attn, self.c_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.heads = heads

    def forward(self, x):
        b, t, d = x.shape
        q, k, v = (u.view(b, t, self.heads, -1).transpose(1, 2) for u in self.c_attn(x).split(d, 2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.c_proj(y.transpose(1, 2).reshape(b, t, d))


class Block(nn.Module):
    """GPT-2's pre-norm block; mlp by its own names."""

    def __init__(self, width, heads):
        super().__init__()
        self.ln_1, self.attn = nn.LayerNorm(width), Attention(width, heads)
        self.ln_2, self.mlp = nn.LayerNorm(width), nn.ModuleDict()
        self.mlp["c_fc"] = nn.Linear(width, 4 * width)
        self.mlp["c_proj"] = nn.Linear(4 * width, width)

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp["c_proj"](F.gelu(self.mlp["c_fc"](self.ln_2(x)), approximate="tanh"))


def batch_norm():
    """As run(), then the running statistics, then y in evaluation."""
    layer = nn.BatchNorm2d(3)
    found = run(layer, data(2, 3, 2, 2))
    found += layer.running_mean.tolist() + layer.running_var.tolist()
    layer.eval()
    return found + layer(data(2, 3, 2, 2)).flatten().tolist()


def entropy(ignored, **options):
    """The loss of six rows of five logits, then their gradient; `ignored`: row 1's target."""
    x = (4 * common.values((6, 5), 20)).requires_grad_()
    loss = F.cross_entropy(x, torch.tensor([3, ignored, 0, 4, 1, 1]), **options)
    loss.backward()
    return [loss.item()] + x.grad.flatten().tolist()


common.header("layers.py")
common.array("ref_linear", run(nn.Linear(4, 3), data(2, 4)))
common.array("ref_linear_no_bias", run(nn.Linear(4, 3, bias=False), data(2, 2, 4)))
common.array("ref_conv2d", run(nn.Conv2d(2, 4, 3, stride=2, padding=1), data(2, 2, 5, 5)))
grouped = nn.Conv2d(4, 2, 2, groups=2, dilation=2, bias=False)
common.array("ref_conv2d_groups", run(grouped, data(1, 4, 4, 4)))
common.array("ref_max_pool2d", run(nn.MaxPool2d(3, stride=2, padding=1), data(1, 2, 5, 5)))
common.array("ref_avg_pool2d", run(nn.AvgPool2d(2), data(1, 2, 4, 4)))
common.array("ref_layer_norm", run(nn.LayerNorm(6), data(3, 6)))
common.array("ref_batch_norm", batch_norm())
common.array("ref_embedding", run(nn.Embedding(5, 3), torch.tensor([[1, 4, 1], [0, 2, 1]])))
common.array("ref_gelu", run(nn.GELU(), data(2, 5)))
common.array("ref_gelu_tanh", run(nn.GELU(approximate="tanh"), data(2, 5)))
common.array("ref_attention", run(Attention(4, 2), data(2, 3, 4)))
common.array("ref_block", run(Block(4, 2), data(2, 3, 4)))
everything = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2)
common.array("ref_conv2d_all", run(everything, data(2, 4, 7, 5)))
common.array("ref_max_pool2d_cut", run(nn.MaxPool2d(2), data(2, 2, 5, 4)))
common.array("ref_layer_norm_eps", run(nn.LayerNorm(5, eps=0.25), data(3, 5)))
common.array("ref_batch_norm_eval", run(nn.BatchNorm2d(2, eps=0.1).eval(), data(2, 2, 3, 1)))
common.array("ref_entropy", entropy(-100))
common.array("ref_entropy_ignore", entropy(0, ignore_index=1))
common.array("ref_entropy_smooth", entropy(-100, label_smoothing=0.1))
common.array("ref_entropy_both", entropy(0, ignore_index=0, label_smoothing=0.3))
