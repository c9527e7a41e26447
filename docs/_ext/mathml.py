"""Formulas as MathML: browsers draw it by themselves, so pages load nothing from the network."""

from docutils import nodes
from math_core import LatexError, LatexToMathML
from sphinx.util import logging

CONVERTER = LatexToMathML(fancy_error=False)


def mathml(node: nodes.Element, display: bool) -> str:
    try:
        return CONVERTER.convert_with_local_state(node.astext(), displaystyle=display)
    except LatexError as error:
        logging.getLogger(__name__).warning("%s: %s", error, node.astext(), location=node)
        return ""


def visit_math(writer, node: nodes.math):
    writer.body.append(mathml(node, display=False))
    raise nodes.SkipNode


def visit_displaymath(writer, node: nodes.math_block):
    writer.body.append(f'<div class="math">{mathml(node, display=True)}</div>')
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_displaymath, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
