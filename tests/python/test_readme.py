"""The README's Python example prints what the README says."""

import contextlib
import io
import pathlib
import re

README = pathlib.Path(__file__).parents[2] / "README.md"


def test_example_prints_what_it_says():
    found = re.search(r"```python\n(.*?)```\n\nprints\n\n```\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
    assert found, "no example in README.md"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(found[1], str(README), "exec"), {})
    assert printed.getvalue() == found[2]
