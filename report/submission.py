"""The ZIP to hand in, 1-KEY.zip: the report, and a folder of code for each part.

    python report/submission.py --penn-key ada

First typesets the report with the given names (report/build.py, with the same flags). Each folder holds all that its
scripts import, and part3 also holds the trained networks, so that each folder runs on its own.
"""

import sys
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import options
from common.records import ROOT, RecordError, replacing
from part3.networks import NETWORKS, weights_of
from report import build, figures

IMPORTED = {"part1": ("common", "part1"), "part2": ("common", "part2"), "part3": ("common", "part1", "part2", "part3")}


def files(out):
    """The ZIP's files besides the report: `{name in the ZIP: file}`."""
    packed = {}
    for part, folders in IMPORTED.items():
        packed[f"{part}/requirements.txt"] = ROOT / "requirements.txt"
        for folder in folders:
            scripts = [path for path in sorted((ROOT / folder).glob("*.py")) if path.stem.isidentifier()]
            packed |= {f"{part}/{folder}/{path.name}": path for path in scripts}
    return packed | {f"part3/report/weights/{path.name}": path for path in weights_of(out, *NETWORKS)}


def main():
    parser = build.parser(__doc__)
    arguments = build.parse(parser)
    if not arguments.penn_key:
        parser.error("argument --penn-key: required to name the ZIP")
    packed = files(arguments.out)
    for path in packed.values():
        if not path.exists():
            raise RecordError(f"{path} is missing: `python part3/transfer.py --retrain` trains it")
    target = arguments.out / f"1-{arguments.penn_key}.zip"
    figures.draw(arguments.out)
    contents = {"report.pdf": build.typeset(arguments), **{name: path.read_bytes() for name, path in packed.items()}}
    with replacing(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            dated_1980 = zipfile.ZipInfo(name)  # makes the bytes reproducible
            archive.writestr(dated_1980, content, zipfile.ZIP_DEFLATED)
    print(f"wrote {target}")


if __name__ == "__main__":
    options.run_script(main)
