"""The directive `args-table`: the `Args` of a script as a table, made from its source when the page is built."""

import ast
from itertools import pairwise
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).parents[2]


def read_args(script: Path) -> list[tuple[str, str, str]]:
    """Name, default and docstring of each field of the class `Args` in a script."""
    body = next(node for node in ast.parse(script.read_text()).body if getattr(node, "name", None) == "Args").body
    return [
        (field.target.id, ast.unparse(field.value), doc.value.value)
        for field, doc in pairwise(body)
        if isinstance(field, ast.AnnAssign)
    ]


class ArgsTable(SphinxDirective):
    """A row for each argument of the script that is named."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        script = ROOT / self.arguments[0]
        self.env.note_dependency(str(script))
        body = nodes.tbody()
        for name, default, doc in read_args(script):
            option = f"--{name.replace('_', '-')}"
            body += self._row(nodes.literal("", option), nodes.literal("", default), nodes.Text(doc))
        head = nodes.thead("", self._row(*map(nodes.Text, ("argument", "default", "meaning"))))
        group = nodes.tgroup("", *[nodes.colspec(colwidth=1) for _ in range(3)], head, body, cols=3)
        return [nodes.table("", group, classes=["args"])]

    def _row(self, *cells: nodes.Node) -> nodes.row:
        return nodes.row("", *[nodes.entry("", nodes.paragraph("", "", cell)) for cell in cells])


def setup(app):
    app.add_directive("args-table", ArgsTable)
    return {"parallel_read_safe": True}
