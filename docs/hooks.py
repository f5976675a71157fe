"""What mkdocs is told beside its configuration: pages that stand elsewhere, tables that the code makes, and links.

A link is written as it works in the repository, relative to its file, and is turned into one of the site. A line
``<!-- made: NAME -->`` becomes what ``made.PAGES[NAME]`` gives.
"""

from __future__ import annotations

import os
import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

sys.path.insert(0, str(Path(__file__).parent))
import made

ROOT = Path(__file__).parents[1]
DOCS = "docs/"
PARTS = sorted(ROOT.glob("components/selfloop/*/README.md"))
NOTEBOOKS = sorted(ROOT.glob("examples/*.ipynb"))
ELSEWHERE = {
    "README.md": "index.md",
    "SECURITY.md": "security.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "CITATION.cff": "CITATION.cff",
    "LICENSE": "LICENSE",
    "images/README.md": "parts/images.md",
    "manifests/README.md": "parts/manifests.md",
    "tests/cluster/README.md": "parts/live-cluster.md",
    **{str(path.relative_to(ROOT)): f"parts/{path.parent.name}.md" for path in PARTS},
    **{f"examples/{path.name}": f"examples/{path.name}" for path in NOTEBOOKS},
}
"""Where files of the repository that do not lie in ``docs`` stand in the site."""
STANDS_AT = {site: path for path, site in ELSEWHERE.items()}
LINK = re.compile(r"(\]\()(?!\w+:)([^)\s#]+)")
MADE = re.compile(r"^<!-- made: ([\w-]+) -->$", re.MULTILINE)


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that do not lie in ``docs``."""
    for path, site in ELSEWHERE.items():
        files.append(File.generated(config, site, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Make what is to be made, and let links lead where their files stand in the site."""
    site = page.file.src_uri
    whole = MADE.sub(lambda found: made.PAGES[found[1]](), markdown)
    return LINK.sub(lambda found: found[1] + linked(found[2], STANDS_AT.get(site, DOCS + site), site), whole)


def linked(link: str, path: str, site: str) -> str:
    """A link of the file ``path``, which stands at ``site``: the same where it leads to nothing of the site."""
    target = posixpath.normpath(posixpath.join(posixpath.dirname(path), link))
    stands = ELSEWHERE.get(target, target.removeprefix(DOCS) if target.startswith(DOCS) else None)
    return link if stands is None else os.path.relpath(stands, posixpath.dirname(site))
