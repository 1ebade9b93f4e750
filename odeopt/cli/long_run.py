"""What long commands share: a progress bar, and one line after an interrupt that says how to go on."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import typer

from odeopt.cli.printed import say

__all__ = ["LongRun", "answered"]

_LONGEST = 28  # characters of the name of a stage


@contextlib.contextmanager
def answered() -> Iterator[None]:
    """Answer an interrupt by what it says is kept, and status 130."""
    try:
        yield
    except KeyboardInterrupt as error:
        typer.echo("\r" * sys.stderr.isatty(), nl=False, err=True)  # where the terminal wrote ^C
        say(f"odeopt: interrupted; {str(error) or 'nothing was kept'}", err=True)
        raise typer.Exit(130) from None


class _Stopped(KeyboardInterrupt):
    """SIGTERM, answered as Ctrl-C is."""


class LongRun:
    """A bar for ``progress(stage, done, total)``, which also remembers how far each stage has come.

    >>> run = LongRun()
    >>> run("kernel", 3, 8)
    >>> run.done
    {'kernel': 3}
    """

    def __init__(self) -> None:
        self.done: dict[str, int] = {}
        self._bar: Any = None
        self._stage = ""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show that a stage has done so much of its total."""
        if stage != self._stage:
            self.close()
            self._stage, self._bar = stage, _bar(stage, done, total)
        elif self._bar is not None:
            self._bar.update(done - self.done[stage])
        self.done[stage] = done

    def close(self) -> None:
        """Clear the line, for what is printed next."""
        if self._bar is not None:
            self._bar.close()
        self._stage, self._bar = "", None

    @contextlib.contextmanager
    def kept(self, message: Callable[[dict[str, int]], str]) -> Iterator[LongRun]:
        """Answer SIGINT and SIGTERM by what the interrupt says is kept, or `message` of the stages."""
        main = threading.current_thread() is threading.main_thread()
        before = signal.signal(signal.SIGTERM, _stop) if main else None
        try:
            yield self
        except KeyboardInterrupt as error:
            self.close()
            say(f"odeopt: interrupted; {str(error) or message(self.done)}", hang=4, err=True)
            number = signal.SIGTERM if isinstance(error, _Stopped) else signal.SIGINT
            raise typer.Exit(128 + number) from None
        finally:
            self.close()
            if main:
                signal.signal(signal.SIGTERM, before)


def _bar(stage: str, done: int, total: int) -> Any:
    """A line of a terminal with the time left; none in a pipe."""
    from tqdm import tqdm

    shown = stage if len(stage) <= _LONGEST else stage[: _LONGEST - 3] + "..."
    form = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}, {remaining} left"
    return tqdm(
        desc=shown, total=total, initial=done, unit_scale=total >= 10**6, bar_format=form, file=sys.stderr,
        leave=False, mininterval=0.2, disable=None,
    )  # fmt: skip


def _stop(number: int, frame: FrameType | None) -> None:
    raise _Stopped
