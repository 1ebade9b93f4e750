r"""The command line: options and tables over the functions of the package."""

import collections
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; a refusal is one line on stderr and exit status 2, an interrupt status 130.

    Raises
    ------
    SystemExit
        At the end of every command, with its exit status.

    Examples
    --------
    >>> from unittest.mock import patch
    >>> try:
    ...     with patch("sys.argv", ["odeopt", "--version"]):
    ...         main()
    ... except SystemExit as end:
    ...     print("status", end.code)
    odeopt ...
    status 0
    """
    try:
        try:
            from odeopt.cli.app import run

            run()
        except KeyboardInterrupt:
            sys.stderr.write("odeopt: interrupted; nothing was kept\n")
            raise SystemExit(130) from None
    finally:
        # CPython kills itself at the end of `python -m` where an interrupt came while a text was evaluated,
        # as dataclasses do, though it was answered; evaluating another one makes it forget that.
        collections.namedtuple("_Answered", ())
