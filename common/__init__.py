"""Code that several parts share."""

import signal
import sys
from pathlib import Path

# While a script of this repository imports modules, Ctrl-C ends it without a traceback (see `options.run_script`),
# and a PyTorch that cannot be imported gives a one-line error.
script = Path(getattr(sys.modules["__main__"], "__file__", None) or "/").resolve()
if script.parents[1:2] == Path(__file__).resolve().parents[1:2]:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        import torch  # noqa: F401
    except (ImportError, OSError, RuntimeError, ValueError, AttributeError) as error:
        install = f"`{sys.executable} -m pip install -r requirements.txt`"
        reason = " ".join(str(error).split())
        print(f"{script.name}: error: torch cannot be used ({reason}); run {install}", file=sys.stderr)
        sys.exit(2)
