"""Code that several parts share."""

import signal
import sys
from pathlib import Path

# What the import of a broken package raises.
UNUSABLE = (ImportError, OSError, RuntimeError, ValueError, AttributeError)


def remedy(error: Exception) -> str:
    """Why a package cannot be used, and the command that installs what is required, on one line."""
    return f"({' '.join(str(error).split())}); run `{sys.executable} -m pip install -r requirements.txt`"


# While a script of this repository imports modules, Ctrl-C ends it without a traceback (see `options.run_script`),
# and a PyTorch that cannot be imported gives a one-line error.
script = Path(getattr(sys.modules["__main__"], "__file__", None) or "/").resolve()
if script.parents[1:2] == Path(__file__).resolve().parents[1:2]:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        import torch  # noqa: F401
    except UNUSABLE as error:
        print(f"{script.name}: error: torch cannot be used {remedy(error)}", file=sys.stderr)
        sys.exit(2)
