"""The command-line flags that all scripts share; a user's errors are reported in one line."""

import argparse
import ctypes
import json
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from common.data import DataError, find, is_at_hand
from common.records import READ_ONLY, ROOT, RecordError, replacing, within
from common.results import DEPARTURES, departures
from common.settings import Settings

REPORT = ROOT / "report"


class Parser(argparse.ArgumentParser):
    """`ArgumentParser` with one-line errors (exit code 2), without the usage text."""

    def error(self, message: str):
        self.exit(2, f"{self.prog}: error: {message}\n")


def device_named(name: str) -> torch.device:
    """`auto` is PyTorch's accelerator where there is one, else the CPU."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if name == "auto":
        return accelerator or torch.device("cpu")
    if name not in ("cpu", "cuda", "mps"):
        raise argparse.ArgumentTypeError(f"{name!r} is not one of auto, cpu, cuda, mps")
    if name != "cpu" and (accelerator is None or accelerator.type != name):
        raise argparse.ArgumentTypeError(f"this machine has no {name} device")
    return torch.device(name)


def fastest_precision(device: torch.device) -> str:
    """bf16 where the processor is known to compute in it natively, else fp32.

    These are CUDA GPUs with native bf16 and x86 CPUs with AVX-512 BF16 or AMX; others were not measured.
    """
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    capabilities = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return "bf16" if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else "fp32"


def parser(description: str, seeds: bool = True) -> Parser:
    """The shared flags; `parse` adds values derived from them. Without `seeds`, there is no flag --seeds."""
    parser = Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    add = parser.add_argument
    if seeds:
        add_seeds(parser, [0], "train those that the log lacks; the answer uses all seeds in the log (default: 0)")
    many, images = within(int, 1, 10**6), within(int, 2, 10_000)  # BatchNorm needs at least two
    add("--iterations", type=many, default=Settings().iterations, help="training steps (default: %(default)s)")
    add("--batch-size", type=images, default=Settings().batch_size, help="images per step (default: %(default)s)")
    add("--device", type=device_named, default="auto", metavar="{auto,cpu,cuda,mps}", help="(default: auto)")
    text = "sgd: plain SGD for all parameters, in a separate folder (default: each experiment's own settings)"
    add("--optimizer", choices=["procedure", "sgd"], default="procedure", help=text)
    precisions = ["auto", "fp32", "bf16"]
    add("--precision", choices=precisions, default="auto", help="auto uses bf16 if it is native (default: auto)")
    threads, text = torch.get_num_threads(), "CPU threads; the number affects rounding (default: %(default)s)"
    add("--threads", type=within(int, 1, 1024), default=threads, metavar="N", help=text)
    add(
        "--data-dir",
        type=printable,
        metavar="DIR",
        help='folder that holds cifar-10-batches-py, or "synthetic" for generated images '
        "(default: $CIFAR10_ROOT, data/, ../shared, else a download into data/)",
    )
    add_out(parser, "folder for logs/, figures/, weights/ and checkpoints/ (default: report)")
    add("--retrain", action="store_true", help="repeat runs already in the log")
    return parser


def add_seeds(parser: argparse.ArgumentParser, default: list[int] | None, text: str) -> None:
    kind = within(int, 0, 2**32 - 1)
    parser.add_argument("--seeds", type=kind, nargs="+", default=default, metavar="SEED", help=text)


def add_out(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("--out", type=printable_path, default=REPORT, metavar="DIR", help=text)


def printable_path(text: str) -> Path:
    return Path(printable(text))


def printable(text: str) -> str:
    """A flag's type: text that is not empty and contains only printable characters, so no line breaks."""
    if not text.strip() or not text.isprintable():
        raise argparse.ArgumentTypeError(f"{text!r} is empty or contains unprintable characters")
    return text


def parse(parser: Parser, constants: Sequence[str] = ()) -> argparse.Namespace:
    """Parse, determine `precision`, and move `out` to a separate folder if the run is not the report's.

    Such a run has a budget other than the assignment's, generated images, a precision other than the fastest, plain
    SGD, or a non-default value of a flag in `constants`. `arguments.trained` is the folder of the same run
    with default `constants`: a script that only uses trained networks finds them there. `arguments.asked` holds
    precision and threads if a flag sets them to values other than the defaults, and `arguments.budget` holds
    iterations and batch size if they are not the assignment's. With such a budget, images are generated if CIFAR-10
    is missing and cannot be downloaded; at the full budget, that is an error.
    Raises `DataError` if `--data-dir` is given and has no CIFAR-10, even if a finished log needs none.
    """
    arguments = parser.parse_args()
    if hasattr(arguments, "seeds"):
        arguments.seeds = list(dict.fromkeys(arguments.seeds))
    torch.set_num_threads(arguments.threads)
    asked = {name: getattr(arguments, name) for name in ("precision", "threads")}
    arguments.asked = {name: value for name, value in asked.items() if value != parser.get_default(name)}
    fastest = fastest_precision(arguments.device)
    if arguments.precision == "auto":
        arguments.precision = fastest
    if arguments.data_dir not in (None, "synthetic"):
        find(arguments.data_dir)
    given, budget = vars(arguments), asdict(Settings())
    arguments.budget = {name: given[name] for name in ("iterations", "batch_size") if given[name] != budget[name]}
    if arguments.budget and arguments.data_dir is None and not is_at_hand():
        try:
            find()
        except DataError as error:
            print(f"GENERATED IMAGES replace CIFAR-10 in this trial: {error}")
            arguments.data_dir = "synthetic"
    departing = dict(arguments.budget)
    if arguments.precision != fastest:
        departing["precision"] = arguments.precision
    if arguments.optimizer != "procedure":
        departing["optimizer"] = arguments.optimizer
    if arguments.data_dir == "synthetic":
        departing["images"] = "synthetic"
    of_constants = {name: given[name] for name in constants if given[name] != parser.get_default(name)}
    arguments.trained = trial(parser, arguments.out, departing)
    arguments.out = trial(parser, arguments.out, departing | of_constants) if of_constants else arguments.trained
    return arguments


def make_folders(parser: Parser, out: Path) -> None:
    """Make the folders in `out`, or reject `--out` before any training. A read-only folder with logs is accepted."""
    try:
        for name in ("logs", "figures", "checkpoints", "weights"):
            (out / name).mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=out / name).close()
    except OSError as error:
        if error.errno not in READ_ONLY or name != "logs" or not (out / name).is_dir():
            parser.error(f"argument --out: cannot write into {error.filename or out} ({error.strerror})")


def trial_path(out: Path, departing: dict[str, int | float | str]) -> Path:
    """The folder under `out` of runs that differ from the report's in these ways; `out` itself if none."""
    words = [value if isinstance(value, str) else f"{name}{value}" for name, value in sorted(departing.items())]
    return out / "trials" / "-".join(words) if words else out


def trial(parser: Parser, out: Path, departing: dict[str, int | float | str]) -> Path:
    """Make `trial_path`, with a file that lists how its runs differ (see `common.results.departures`)."""
    folder = trial_path(out, departing)
    make_folders(parser, folder)
    if departing and departures(folder) != departing:
        with replacing(folder / DEPARTURES) as temporary:
            temporary.write_text(json.dumps(departing) + "\n")
    return folder


def run_script(main: Callable[[], None]) -> None:
    """Run a script's main function; an error that its user can fix becomes one line and exit code 2.

    SIGTERM (a cluster's time limit) and SIGHUP (a closed terminal) end it as Ctrl-C does.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)  # see common/__init__.py
    for name in {"SIGTERM", "SIGHUP"} & set(dir(signal)):
        signal.signal(getattr(signal, name), signal.default_int_handler)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed
            setattr(sys, name, open(os.devnull, "w"))
        getattr(sys, name).reconfigure(errors="replace")  # for an encoding that lacks "±"
    reuse_freed_memory()
    try:
        main()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has stopped, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (DataError, RecordError, FloatingPointError, OSError) as error:
        fail(str(error))
    except (MemoryError, RuntimeError) as error:
        words = ("allocate memory", "out of memory")  # on the CPU, on an accelerator
        if isinstance(error, RuntimeError) and not any(each in str(error) for each in words):
            raise
        fail("not enough memory; a smaller --batch-size needs less")
    except KeyboardInterrupt:
        print("\ninterrupted; the same command resumes from the last finished epoch, if any", file=sys.stderr)
        sys.exit(130)


def fail(message: str) -> None:
    print(f"{Path(sys.argv[0]).name}: error: {' '.join(message.splitlines())}", file=sys.stderr)
    sys.exit(2)


def reuse_freed_memory() -> None:
    """Let glibc keep freed memory instead of returning it to the system.

    Each step frees and allocates the same large activations, which the system otherwise zeroes each
    time. This shortens steps on the CPU, more in fp32 than in bf16, and attacks, too.
    """
    if platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-3, 32 * 2**20)  # M_MMAP_THRESHOLD: the maximum
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: never
