"""Running the demo: its folder, its end, and what asks it to stop."""

import signal
import sys
import tempfile
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import Final

import msgspec

from agrenting.config import Settings
from agrenting.demo.children import Inbox, Line
from agrenting.demo.desk import DemoFailed
from agrenting.demo.ensemble import Stopped
from agrenting.demo.show import Show
from agrenting.demo.story import Demo

INTERRUPTED: Final = 130


@contextmanager
def stop_by_signal(inbox: Inbox) -> Generator[None, None, None]:
    """Take what asks a program to stop as something that is heard in its turn, so that nothing is left half done."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        inbox.put(None)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run(*, data_dir: Path | None, once: bool, verbose: bool, settings: Settings) -> int:
    """Run the demo; the exit code: 0 only if everything balanced.

    Args:
        data_dir: Kept afterwards; None takes a temporary folder that goes.
        once: End after one deal; otherwise the market lives on until Ctrl-C.
        verbose: Print every frame.
        settings: As the command line has read them. The server reads the same ones, but for folder and address.
    """
    show, inbox = Show(verbose=verbose), SimpleQueue[Line | None]()
    with ExitStack() as stack:
        stack.enter_context(stop_by_signal(inbox))
        folder = data_dir or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="agrenting-demo-")))
        is_new = not msgspec.structs.replace(settings, data_dir=str(folder)).database_path.exists()
        demo = Demo(folder, show, inbox, is_new=is_new, once=once)
        try:
            demo.run()
        except Stopped:
            show.text("\nStopped before the first deal was done.")
            return INTERRUPTED if once else 0
        except DemoFailed as failure:
            print(f"agrenting demo: {failure}", file=sys.stderr)
            return 1
    show.text(f"Done: {demo.deals_done} {'deal' if demo.deals_done == 1 else 'deals'}, and everything balanced.")
    return 0
