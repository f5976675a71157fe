"""What a person waits for at the terminal: importing, listing recipes and compiling one, each in a fresh interpreter.

Compiled modules are cached, as Python does by default. No listing or compiling may import what only a running stage
needs; which of these were imported stands in the last column. Target: less than 2 s each.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from measuring import cached_bytecode, in_turns, publish, seconds, show, spread, wants_small

HEAVY = ("datasets", "mlflow", "numpy", "pyarrow", "torch", "transformers", "trl")
COMMAND = "from selfloop.cli import main; main()"


def interpreted(code: str, *words: str) -> str:
    """Run code in a fresh interpreter. Returns what it printed."""
    done = subprocess.run([sys.executable, "-c", code, *words], check=True, capture_output=True, text=True)
    return done.stdout


def heavy(code: str, *words: str) -> list[str]:
    """What of the heavy modules the code imports."""
    asked = f"import atexit, sys\natexit.register(lambda: print('\\n', *sorted({{*sys.modules}} & {{*{HEAVY!r}}})))\n"
    return interpreted(asked + code, *words).splitlines()[-1].split()


def main() -> None:
    """Measure, print, write."""
    small = wants_small(__doc__)
    with cached_bytecode(), tempfile.TemporaryDirectory() as folder:
        target = str(Path(folder, "pipeline.yaml"))
        compiling = (COMMAND, "compile", "length-generalization", "--rounds", "10", "-o", target)
        commands = {
            "python": ("pass",),
            "import kfp": ("import kfp",),
            "import selfloop": ("import selfloop.recipe",),
            "selfloop list recipes": (COMMAND, "list", "recipes"),
            "selfloop list stages": (COMMAND, "list", "stages"),
            "selfloop compile --pods": (*compiling, "--pods"),
            "selfloop compile --fused": (*compiling, "--fused"),
        }
        imported = {name: heavy(*words) for name, words in commands.items()}
        repeats = 2 if small else 5
        took = in_turns(
            {name: partial(seconds, partial(interpreted, *words)) for name, words in commands.items()}, repeats
        )
    spreads = {name: spread(of_it) for name, of_it in took.items()}
    show(
        f"Fresh interpreters, median of {repeats} (lowest–highest)",
        ["", "s", "heavy imports"],
        [(name, each, ", ".join(imported[name]) or "none") for name, each in spreads.items()],
    )
    numbers = {name: {**each._asdict(), "heavy": imported[name]} for name, each in spreads.items()}
    publish("imports", small, {"seconds": numbers})


if __name__ == "__main__":
    main()
