"""``--svg``: the table of verdicts as a picture, for a README or a chat."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from testbed.verdict.junit import clean_for_xml
from testbed.verdict.model import Verdict
from testbed.verdict.terminal import print_table

_COLUMNS = 108  # a table of this width has no column of run folders, which repeat the names of the cases
# Fonts are those of the viewer, since most places that show pictures load none. rich puts a character every
# 12.2 px; 20.25 px is the size at which the usual fonts do so too, where textLength is not obeyed.
_FORMAT = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" class="rich-terminal">
<style>
.{unique_id}-matrix {{ font: 20.25px/{line_height}px ui-monospace, Menlo, Consolas, \
"DejaVu Sans Mono", monospace; }}
.{unique_id}-title {{ font: bold 18px system-ui, sans-serif; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix" xml:space="preserve">
{matrix}
</g>
</g>
</svg>
"""


def build_svg(verdicts: Sequence[Verdict]) -> str:
    """Return the picture. Of run folders only the last two names are shown: it is for other machines."""
    console = Console(
        width=_COLUMNS, record=True, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    shown = [replace(each, run_dir="/".join(Path(each.run_dir).parts[-2:])) for each in verdicts]
    print_table(console, shown)
    return clean_for_xml(console.export_svg(title="testbed", code_format=_FORMAT, unique_id="testbed"))
