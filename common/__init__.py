"""What more than one part needs."""

import signal
import sys
from pathlib import Path

# Ctrl-C while one of this repository's scripts is importing ends it without a traceback; see `options.run_script`.
script = Path(getattr(sys.modules["__main__"], "__file__", None) or "/").resolve()
if script.parents[1:2] == Path(__file__).resolve().parents[1:2]:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
