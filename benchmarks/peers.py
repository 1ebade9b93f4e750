"""neural-tangents and its jax, in float64 and on one thread, as all of BLAS; or how to install them.

Times are those of the processor, to which threads that wait for each other would be added.

The extra ``peers`` pins what runs together, in an environment of its own, of Python 3.10 to 3.12:

    python3.11 -m venv peers && peers/bin/pip install -e ".[peers]"
    peers/bin/python benchmarks/peer_points.py
"""

import os
import sys

import threadpoolctl

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

try:
    import jax

    jax.config.update("jax_enable_x64", True)
    import neural_tangents as nt
    from jax._src import source_info_util
    from jax.experimental import ode
    from jax.interpreters import ad
    from neural_tangents import stax
except ImportError as error:
    sys.exit(
        f"neural-tangents cannot be imported ({error}); in an environment of its own (Python 3.10 to 3.12) "
        'pip install -e ".[peers]"'
    )

# where structured derivatives of neural-tangents 0.6.5 look for them, and jax 0.4.30 no longer has them
ad.source_info_util, ad.config = source_info_util, jax.config
threadpoolctl.threadpool_limits(1, "blas")

__all__ = ["jax", "nt", "ode", "stax"]
