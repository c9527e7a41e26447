"""Links to a line of the code, as [`train`](../cleanmarl/qmix.py#L702), lead to it on a page of the site.

MyST alone would offer the file for download, without the line.
"""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\]\(\.\./(\S+\.py)#L(\d+)\)")


def replace_links(app, page: str, source: list[str]):
    source[0] = LINK.sub(r"](code:\1#L-\2)", source[0])


def add_scheme(app, config):
    config.myst_url_schemes = dict.fromkeys(("http", "https", "mailto")) | {"code": "_code/{{path}}.html#{{fragment}}"}


def code_pages(app):
    """A page for each file with such a link, on which each line has an anchor."""
    for path in sorted({path for page in Path(app.srcdir).glob("*.md") for path, _ in LINK.findall(page.read_text())}):
        source = (ROOT / path).read_text()
        code = app.builder.highlighter.highlight_block(source, "python", linespans="L", linenos="inline")
        yield f"_code/{path}", {"title": path, "body": f"<h1>{path}</h1>{code}"}, "page.html"


def setup(app):
    app.connect("config-inited", add_scheme)
    app.connect("source-read", replace_links)
    app.connect("html-collect-pages", code_pages)
    return {"parallel_read_safe": True}
