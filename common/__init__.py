"""What more than one part needs."""

import signal
import sys
from pathlib import Path

# While one of this repository's scripts imports: Ctrl-C ends it without a traceback (see `options.run_script`), and
# torch and torchvision that do not fit each other are one line.
script = Path(getattr(sys.modules["__main__"], "__file__", None) or "/").resolve()
if script.parents[1:2] == Path(__file__).resolve().parents[1:2]:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        import torchvision  # noqa: F401
    except (ImportError, OSError, RuntimeError, ValueError, AttributeError) as error:
        # Of torch and torchvision that do not fit each other: "operator torchvision::nms does not exist".
        install = f"`{sys.executable} -m pip install -r requirements.txt`"
        reason = " ".join(str(error).split())
        print(f"{script.name}: error: torch and torchvision cannot be used ({reason}): {install}", file=sys.stderr)
        sys.exit(2)
