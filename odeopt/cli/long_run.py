"""What long commands share: a progress bar, and one line after an interrupt that says how to go on."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import typer

from odeopt.cli.printed import say

__all__ = ["LongRun", "answered"]


@contextlib.contextmanager
def answered() -> Iterator[None]:
    """Answer an interrupt by what it says is kept, and status 130."""
    try:
        yield
    except KeyboardInterrupt as error:
        say(f"odeopt: interrupted; {str(error) or 'nothing was kept'}", err=True)
        raise typer.Exit(130) from None


class _Stopped(KeyboardInterrupt):
    """SIGTERM, answered as Ctrl-C is."""


class LongRun:
    """A bar for ``progress(stage, done, total)``, which also remembers how far each stage has come."""

    def __init__(self, unit: str = "it") -> None:
        from tqdm import tqdm

        self.done: dict[str, int] = {}
        self._bar = tqdm(unit=unit, file=sys.stderr, leave=False, mininterval=0.2, disable=None)

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show that a stage has done so much of its total."""
        if stage not in self.done:
            self._bar.reset(total)
            self._bar.set_description(stage, refresh=False)
            # What was there already took no time, and must not enter the time left.
            self._bar.initial = self._bar.n = self._bar.last_print_n = done
        self._bar.update(done - self.done.get(stage, done))
        self.done[stage] = done

    @contextlib.contextmanager
    def kept(self, message: Callable[[dict[str, int]], str]) -> Iterator[LongRun]:
        """Answer SIGINT and SIGTERM by what the interrupt says is kept, or `message` of the stages."""
        main = threading.current_thread() is threading.main_thread()
        before = signal.signal(signal.SIGTERM, _stop) if main else None
        try:
            yield self
        except KeyboardInterrupt as error:
            self._bar.close()
            say(f"odeopt: interrupted; {str(error) or message(self.done)}", hang=4, err=True)
            number = signal.SIGTERM if isinstance(error, _Stopped) else signal.SIGINT
            raise typer.Exit(128 + number) from None
        finally:
            self._bar.close()
            if main:
                signal.signal(signal.SIGTERM, before)


def _stop(number: int, frame: FrameType | None) -> None:
    raise _Stopped
