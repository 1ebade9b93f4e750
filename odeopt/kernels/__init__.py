r"""Kernels of networks of infinite width, as arrays and as operators."""

from odeopt.kernels.blocks import ReluGramOperator
from odeopt.kernels.cluster import ClusterReluGram, cluster_relu_gram
from odeopt.kernels.convolution import ConvolutionKernel
from odeopt.kernels.cross import CrossOperator, relu_cross_operator
from odeopt.kernels.inputs import SingularPart, singular_part, validate_inputs
from odeopt.kernels.memory import MemoryPlan, memory_plan
from odeopt.kernels.network import NetworkKernel
from odeopt.kernels.operator import relu_gram_operator
from odeopt.kernels.relu import relu_gram

__all__ = [
    "ClusterReluGram", "ConvolutionKernel", "CrossOperator", "MemoryPlan", "NetworkKernel",
    "ReluGramOperator", "SingularPart", "cluster_relu_gram", "memory_plan", "relu_cross_operator",
    "relu_gram", "relu_gram_operator", "singular_part", "validate_inputs",
]  # fmt: skip
