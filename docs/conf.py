"""Sphinx configuration. Build: sphinx-build -W -q -b html docs docs/_build/html"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "CleanMARL-QMIX"
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "code_lines",
    "mathml",
    "narrow",
]
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath", "attrs_inline"]
myst_heading_anchors = 3
smartquotes = False  # "3m" is a string
default_role = "code"  # in docstrings, as in Markdown
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
html_math_renderer = "mathml"
copybutton_exclude = ".linenos"
copybutton_prompt_text = "$ "  # copied are the commands, without what they print
copybutton_line_continuation_character = "\\"
html_theme = "furo"
pygments_style = "friendly"  # of the light theme: diffs in colour
html_title = project
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_show_copyright = False
