"""From an update rule to its ODE, its rate, and the loss curve of a wide ReLU network.

What a newcomer needs is reachable from here, the rest from the wings ``odeopt.rules``, ``limits``,
``dynamics``, ``kernels``, ``spectra``, ``rates``, ``proofs``, ``nets`` and ``studies``. The names stand in
``__init__.pyi`` and are loaded at first use: ``import odeopt`` loads neither numpy nor sympy nor torch.

Examples
--------
>>> import odeopt
>>> odeopt.GradientDescent(lr=0.1)
GradientDescent(lr=0.1)
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__.remove("nets")  # `from odeopt import *` loads no torch
