"""Links to a name in the code, for example [`train`](../cleanmarl/qmix.py#train).

On the forge they open the file. On the site they lead to the line that defines the name, on a page
with the file; MyST alone would offer the file for download. A name that is not there is a warning.
"""

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\]\(\.\./(\S+\.py)#([\w.]+)\)")


def lines_of(source: str) -> dict[str, int]:
    """Line of each function, class and variable, also of those in a class: `Run.log`."""
    lines = {}

    def look(body: list[ast.stmt], prefix: str):
        for node in body:
            if isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                lines.update({prefix + ast.unparse(target): node.lineno for target in targets})
            elif isinstance(node, ast.FunctionDef | ast.ClassDef):
                lines[prefix + node.name] = node.lineno
            if isinstance(node, ast.ClassDef):
                look(node.body, f"{prefix}{node.name}.")

    look(ast.parse(source).body, "")
    return lines


@cache
def lines_of_file(path: str) -> dict[str, int]:
    return lines_of((ROOT / path).read_text()) if (ROOT / path).is_file() else {}


def replace_links(app, page: str, source: list[str]):
    from sphinx.util import logging  # here, because the tests know the names without Sphinx

    def to_line(link: re.Match) -> str:
        path, name = link.groups()
        app.env.note_dependency(str(ROOT / path))  # a later build looks again
        if name not in lines_of_file(path):
            logging.getLogger(__name__).warning("no %s in %s", name, path, location=page)
            return link[0]
        return f"](code:{path}#L-{lines_of_file(path)[name]})"

    source[0] = LINK.sub(to_line, source[0])


def add_scheme(app, config):
    schemes = dict.fromkeys(("http", "https", "mailto"))
    config.myst_url_schemes = schemes | {"code": "_code/{{path}}.html#{{fragment}}"}


def code_pages(app):
    """A page for each file with such a link, on which each line has an anchor."""
    pages = [page.read_text() for page in Path(app.srcdir).glob("*.md")]
    linked = {path for page in pages for path, _ in LINK.findall(page)}
    for path in sorted(path for path in linked if lines_of_file(path)):
        source = (ROOT / path).read_text()
        highlight = app.builder.highlighter.highlight_block
        code = highlight(source, "python", linespans="L", linenos="inline")
        yield f"_code/{path}", {"title": path, "body": f"<h1>{path}</h1>{code}"}, "page.html"


def setup(app):
    app.connect("config-inited", add_scheme)
    app.connect("source-read", replace_links)
    app.connect("html-collect-pages", code_pages)
    return {"parallel_read_safe": True}
