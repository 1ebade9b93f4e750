"""Torch modules as users write them, each with inputs, and with what is refused of it and why.

``refused`` maps "kernel" (the kernel, its products and trust) or "train" to words of the refusal; what is not
named there must be answered.
"""

import copy
import warnings
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.utils.checkpoint import checkpoint

KINDS = {}


@dataclass(frozen=True)
class Kind:
    make: object
    refused: dict = field(default_factory=dict)
    lifted: bool = True

    def build(self):
        torch.manual_seed(3)
        module, x = self.make()
        return (module.double() if self.lifted else module), x


def kind(*, both=None, lifted=True, **refused):
    def register(make):
        words = {"kernel": both, "train": both} if both else refused
        KINDS[make.__name__] = Kind(make, words, lifted)
        return make

    return register


class Written(nn.Module):
    """A forward pass as a function of the module and of x."""

    def __init__(self, function, **parts):
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.function(self, x)


def rows(n=6, d=5):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def sequences():
    return rows(6, 32).reshape(6, 4, 8)


def images():
    return rows(6, 16).reshape(6, 1, 4, 4)


def tokens():
    return torch.randint(0, 11, (6, 4), generator=torch.Generator().manual_seed(1))


def hidden(*between):
    return nn.Sequential(nn.Linear(5, 8), *between, nn.Linear(8, 1))


# --- layers -----------------------------------------------------------------------------------


@kind()
def perceptron():
    return hidden(nn.ReLU(), nn.Linear(8, 8), nn.GELU()), rows()


@kind()
def convolution_with_pooling():
    layers = nn.Conv2d(1, 3, 3, padding=1), nn.SiLU(), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(3, 1)), images()


@kind()
def transposed_convolution():
    return nn.Sequential(nn.ConvTranspose1d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(14, 1)), rows()[
        :, None
    ]


@kind()
def layer_norm():
    return hidden(nn.LayerNorm(8), nn.ReLU()), rows()


@kind()
def group_norm():
    return hidden(nn.GroupNorm(2, 8), nn.ReLU()), rows()


@kind()
def batch_norm_in_evaluation():
    return hidden(nn.BatchNorm1d(8), nn.ReLU()).eval(), rows()


@kind()
def batch_norm_without_records():
    return hidden(nn.BatchNorm1d(8, track_running_stats=False), nn.ReLU()).eval(), rows()


@kind()
def batch_norm_in_training_without_records():
    return hidden(nn.BatchNorm1d(8, track_running_stats=False), nn.ReLU()), rows()


@kind(both="BatchNorm1d")
def batch_norm_in_training():
    return hidden(nn.BatchNorm1d(8), nn.ReLU()), rows()


@kind()
def attention():
    att, readout = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 1)
    return Written(
        lambda s, x: s.r(s.a(x, x, x, need_weights=False)[0].mean(1)), a=att, r=readout
    ), sequences()


@kind()
def transformer_layer():
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    return Written(lambda s, x: s.r(s.t(x).mean(1)), t=layer, r=nn.Linear(8, 1)).eval(), sequences()


@kind()
def lstm():
    parts = {"cell": nn.LSTM(8, 4, batch_first=True), "r": nn.Linear(4, 1)}
    return Written(lambda s, x: s.r(s.cell(x)[0][:, -1]), **parts), sequences()


@kind()
def embedding_of_tokens():
    return Written(
        lambda s, x: s.r(torch.tanh(s.e(x)).mean(1)), e=nn.Embedding(11, 8), r=nn.Linear(8, 1)
    ), tokens()


@kind()
def sparse_embedding():
    e = nn.Embedding(11, 8, sparse=True)
    return Written(lambda s, x: s.r(torch.tanh(s.e(x)).mean(1)), e=e, r=nn.Linear(8, 1)), tokens()


@kind(both="weight e.weight")
def embedding_that_shortens_its_weights():
    e = nn.Embedding(11, 8, max_norm=0.5)
    return Written(lambda s, x: s.r(torch.tanh(s.e(x)).mean(1)), e=e, r=nn.Linear(8, 1)), tokens()


@kind()
def distances_to_centres():  # without a second derivative in torch
    c = nn.Parameter(torch.randn(8, 5))
    return Written(lambda s, x: s.r(torch.exp(-torch.cdist(x, s.c))), c=c, r=nn.Linear(8, 1)), rows()


@kind()
def fourier_transform():
    return Written(
        lambda s, x: s.b(torch.fft.rfft(s.a(x)).abs()), a=nn.Linear(5, 8), b=nn.Linear(5, 1)
    ), rows()


@kind()
def implicit_layer():
    def forward(s, x):
        system = 3 * torch.eye(5, dtype=x.dtype) + s.w @ s.w.T / 5
        return torch.linalg.solve(system, x.T).T @ s.v

    return Written(forward, w=nn.Parameter(torch.randn(5, 5)), v=nn.Parameter(torch.randn(5))), rows()


@kind()
def largest_features():
    return Written(lambda s, x: s.b(torch.topk(s.a(x), 4)[0]), a=nn.Linear(5, 8), b=nn.Linear(4, 1)), rows()


@kind()
def derivative_of_an_energy():
    def forward(s, x):
        x = x.clone().requires_grad_()
        (force,) = torch.autograd.grad(torch.tanh(s.a(x)).sum(), x, create_graph=True)
        return force.sum(1)

    return Written(forward, a=nn.Linear(5, 8)), rows()


# --- parametrisations and shared weights ------------------------------------------------------


@kind()
def weight_norm():
    return nn.Sequential(parametrizations.weight_norm(nn.Linear(5, 8)), nn.Tanh(), nn.Linear(8, 1)), rows()


@kind()
def weight_norm_by_hook():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layer = nn.utils.weight_norm(nn.Linear(5, 8).double())
    return nn.Sequential(layer, nn.Tanh(), nn.Linear(8, 1)), rows()


@kind(both="buffer 0.parametrizations.weight.0._u")
def spectral_norm_in_training():
    return nn.Sequential(parametrizations.spectral_norm(nn.Linear(5, 8)), nn.Tanh(), nn.Linear(8, 1)), rows()


@kind()
def pruned():
    layer = nn.Linear(5, 8).double()
    prune.l1_unstructured(layer, "weight", 0.3)
    return nn.Sequential(layer, nn.Tanh(), nn.Linear(8, 1)), rows()


@kind()
def tied_weights():
    first, second = nn.Linear(5, 5, bias=False), nn.Linear(5, 5)
    second.weight = first.weight
    return nn.Sequential(first, nn.Tanh(), second, nn.Tanh(), nn.Linear(5, 1)), rows()


@kind(kernel="reads its weight a.weight from elsewhere")
def list_of_weights():
    def forward(s, x):
        return torch.tanh(x @ s.weights[0].T + s.a.bias) @ s.weights[1].T + s.b.bias

    module = Written(forward, a=nn.Linear(5, 8).double(), b=nn.Linear(8, 1).double())
    module.weights = [module.a.weight, module.b.weight]
    return module, rows()


@kind(kernel="reads its weight a.weight from elsewhere")
def view_of_weights():
    module = Written(
        lambda s, x: s.b(torch.tanh(x @ s.turned)), a=nn.Linear(5, 8).double(), b=nn.Linear(8, 1)
    )
    module.turned = module.double().a.weight.T
    return module, rows()


@kind(kernel="reads its weight a.weight from elsewhere")
def closure_of_weights():
    a = nn.Linear(5, 8).double()
    w = a.weight
    return Written(lambda s, x: s.b(torch.tanh(x @ w.T + s.a.bias)), a=a, b=nn.Linear(8, 1)), rows()


@kind(both="backward pass of the module fails")
def square_of_weights_made_once():
    module = Written(
        lambda s, x: s.b(torch.tanh(x @ s.square.T)), a=nn.Linear(5, 8).double(), b=nn.Linear(8, 1)
    )
    module.square = module.a.weight**2
    return module, rows()


@kind()
def checkpointed():
    body = nn.Sequential(nn.Linear(5, 8), nn.Tanh())
    return Written(
        lambda s, x: s.b(checkpoint(s.a, x, use_reentrant=False)), a=body, b=nn.Linear(8, 1)
    ), rows()


@kind(both="use_reentrant=False")
def checkpointed_reentrant():
    body = nn.Sequential(nn.Linear(5, 8), nn.Tanh())

    def forward(s, x):
        return s.b(checkpoint(s.a, x.clone().requires_grad_(), use_reentrant=True))

    return Written(forward, a=body, b=nn.Linear(8, 1)), rows()


# --- what outputs of zero, or of one example, hide --------------------------------------------


@kind()
def zero_readout_after_batch_statistics():
    module = Written(
        lambda s, x: s.b(torch.relu(s.a(x) - s.a(x).mean(0))), a=nn.Linear(5, 8), b=nn.Linear(8, 1)
    )
    nn.init.zeros_(module.b.weight)
    return module, rows()


@kind()
def gate_of_zero_before_batch_statistics():
    def forward(s, x):
        h, z = torch.tanh(s.a(x)), s.c(torch.tanh(s.a(x)))
        return s.b(h + s.gate * torch.relu((z - z.mean(0)) / (z.var(0) + 1e-5).sqrt()))

    parts = {
        "a": nn.Linear(5, 8),
        "c": nn.Linear(8, 8),
        "b": nn.Linear(8, 1),
        "gate": nn.Parameter(torch.zeros(8)),
    }
    return Written(forward, **parts), rows()


@kind()
def function_minus_its_start():
    now = hidden(nn.BatchNorm1d(8, track_running_stats=False), nn.ReLU()).double().eval()
    start = copy.deepcopy(now).requires_grad_(False)
    return Written(lambda s, x: s.now(x) - s.start(x), now=now, start=start), rows()


@kind(both="random")
def dropout_before_a_zero_factor():
    parts = {"A": nn.Parameter(torch.randn(4, 5)), "B": nn.Parameter(torch.zeros(1, 4))}
    base = nn.Linear(5, 1).requires_grad_(False)
    return Written(lambda s, x: s.base(x) + F.dropout(x, 0.3) @ s.A.T @ s.B.T, base=base, **parts), rows()


@kind(both="random")
def path_dropped_once_in_a_thousand_passes():
    def forward(s, x):
        return s.body(x) * (torch.rand(()) > 1e-3)

    return Written(forward, body=hidden(nn.ReLU())), rows()


@kind(both="random numbers of numpy")
def noise_of_numpy():
    return Written(lambda s, x: s.body(x) + np.random.rand(), body=hidden(nn.ReLU())), rows()  # noqa: NPY002


# --- dtypes, hooks and state ------------------------------------------------------------------


@kind()
def complex_weights():
    w = nn.Parameter(torch.randn(5, 8, dtype=torch.complex128))
    return Written(lambda s, x: s.r((x.to(torch.complex128) @ s.w).abs()), w=w, r=nn.Linear(8, 1)), rows()


@kind(train="bfloat16, in which steps below 0.004", lifted=False)
def brain_floats():
    return hidden(nn.Tanh()).bfloat16(), rows().bfloat16()


@kind()
def pixels_told_from_numbers_by_their_type():
    def forward(s, x):
        return s.a(x.to(s.a.weight) / (255 if x.dtype == torch.uint8 else 1))

    return Written(forward, a=nn.Linear(5, 1)), (100 * rows().abs()).to(torch.uint8)


@kind(kernel="less than double precision inside")
def single_precision_inside():
    return Written(lambda s, x: s.b(s.a(x).float().double()), a=nn.Linear(5, 8), b=nn.Linear(8, 1)), rows()


@kind(kernel="hook that changes the gradient of its weight 0.weight")
def hook_on_a_gradient():
    module = hidden(nn.Tanh()).double()
    module[0].weight.register_hook(lambda g: g.clamp(-0.01, 0.01))
    return module, rows()


class ClippedSquare(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx, g):
        return (2 * ctx.saved_tensors[0] * g).clamp(-0.1, 0.1)


class OnceDifferentiable(ClippedSquare):
    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        return 2 * ctx.saved_tensors[0] * g


@kind(kernel="backward pass is not linear")
def backward_pass_that_clips():
    return Written(
        lambda s, x: s.b(ClippedSquare.apply(s.a(x))), a=nn.Linear(5, 8), b=nn.Linear(8, 1)
    ), rows()


@kind()
def function_without_a_second_derivative():
    return Written(
        lambda s, x: s.b(OnceDifferentiable.apply(s.a(x))), a=nn.Linear(5, 8), b=nn.Linear(8, 1)
    ), rows()


@kind(both="buffer calls")
def buffer_that_counts_passes():
    def forward(s, x):
        s.calls += 1
        return s.a(x)

    module = Written(forward, a=nn.Linear(5, 1))
    module.register_buffer("calls", torch.zeros(()))
    return module, rows()


@kind(both="counts its passes")
def outputs_that_alternate():
    def forward(s, x):
        s.passes.append(None)
        return s.a(x) * (1 + len(s.passes) % 2)

    module = Written(forward, a=nn.Linear(5, 1))
    module.passes = []
    return module, rows()


@kind(both="one number in several entries", lifted=False)
def expanded_weight():
    w = nn.Parameter(torch.randn(1, dtype=torch.float64).expand(5))
    return Written(lambda s, x: (x * s.w).sum(1), w=w), rows()


@kind(both="inputs in place")
def inputs_changed_in_place():
    return Written(lambda s, x: s.a(x.mul_(2.0).clone()), a=nn.Linear(5, 1)), rows()


@kind(both="without a derivative")
def forward_without_gradients():
    return Written(torch.no_grad()(lambda s, x: s.a(x)), a=nn.Linear(5, 1)), rows()
