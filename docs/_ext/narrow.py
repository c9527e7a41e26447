"""Figures for narrow screens: beside curves.svg, curves_narrow.svg is shown there instead.

Pages name only the first. The site has both, and the style sheet hides one of them.
"""

from pathlib import Path

from docutils import nodes
from sphinx.transforms import SphinxTransform


class ShowNarrow(SphinxTransform):
    default_priority = 500

    def apply(self):
        for image in list(self.document.findall(nodes.image)):
            uri = Path(image["uri"])
            narrow = uri.with_stem(f"{uri.stem}_narrow")
            if not Path(self.document["source"]).parent.joinpath(narrow).is_file():
                continue
            other = image.copy()
            other["uri"] = narrow.as_posix()
            image["classes"] = [*image["classes"], "on-wide"]
            other["classes"] = [*other["classes"], "on-narrow"]
            image.parent.insert(image.parent.index(image) + 1, other)


def setup(app):
    app.add_transform(ShowNarrow)
    return {"parallel_read_safe": True}
