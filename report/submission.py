"""The ZIP to hand in, 1-KEY.zip: the report, and a folder of code for each part.

    python report/submission.py --penn-key ada

Typesets the report with this name on it first (report/build.py, with the same flags). Each folder has its own copy
of common/, and part3 the trained networks, so that the scripts run from the unzipped folders as they are.
"""

import sys
import tempfile
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import options
from common.records import ROOT, RecordError, replacing
from part3.networks import NETWORKS, weights_of
from report import build


def files(out):
    """What goes into the ZIP beside the report: `{name in the ZIP: file}`."""
    packed = {}
    for part in ("part1", "part2", "part3"):
        for folder, name in [(ROOT / part, part), (ROOT / "common", f"{part}/common")]:
            packed |= {f"{name}/{path.name}": path for path in sorted(folder.glob("*.py")) if path.stem.isidentifier()}
        packed[f"{part}/requirements.txt"] = ROOT / "requirements.txt"
    for path in weights_of(out, *NETWORKS):
        packed[f"part3/report/weights/{path.name}"] = path
    return packed


def main():
    parser = build.parser(__doc__)
    parser.set_defaults(penn_key=None)
    arguments = build.parse(parser)
    if arguments.penn_key is None:
        parser.error("argument --penn-key: the ZIP is named after it")
    packed = files(arguments.out)
    for path in packed.values():
        if not path.exists():
            raise RecordError(f"{path} is missing: `python part3/transfer.py` trains it")
    target = arguments.out / f"1-{arguments.penn_key}.zip"
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.pdf"
        build.build(arguments, report)
        with replacing(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, path in {"report.pdf": report, **packed}.items():
                dated_1980 = zipfile.ZipInfo(name)  # the same files, the same bytes
                archive.writestr(dated_1980, path.read_bytes(), zipfile.ZIP_DEFLATED)
    print(f"wrote {target}")


if __name__ == "__main__":
    options.run_script(main)
