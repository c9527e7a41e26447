"""The site: formulas, figures for phones, the copy button, and that nothing comes from the network.

A small folder is built with the configuration and the style sheet of the documentation.
"""

import re
import shutil
import subprocess
import sys
from importlib.util import find_spec

import pytest
from selenium.webdriver import ActionChains

from tests.helpers import ROOT
from tests.watch.browser import wait, width
from tests.watch.conftest import browser  # noqa: F401  a fixture

# In a process of its own: pyglet opens no windows where Sphinx is imported
if find_spec("sphinx") is None:
    pytest.skip("the site needs the extra docs", allow_module_level=True)

DOCS = ROOT / "docs"
LONG = "python cleanmarl/qmix.py " + " ".join(f"--long-option-{i} value" for i in range(20))
PAGE = rf"""# A page

$Q_{{tot}}$ and $\bar R$ stand in the text, `{LONG}` does, too.

$$
\arg\max_aQ_{{tot}}(s,a)=\sum_{{i=1}}^nq_i(a_i)\qquad
\mathrm{{ELU}}'(z)=\begin{{cases}}1&z>0\\e^z&z\le0\end{{cases}}
$$

![Curves](curves.svg)

```console
$ {LONG}
what it prints
$ python second.py
```

| | |
| --- | --- |
| **[First](index.md)**<br>card | **[Second](index.md)**<br>card |

| {" | ".join("head" * 4 for _ in range(9))} |
| {" | ".join("---" for _ in range(9))} |
| {" | ".join("cell" * 9 for _ in range(9))} |
"""


def build(folder, text: str):
    """The folder of a site with one page, and the warnings of its making."""
    (folder / "docs").mkdir()
    (folder / "docs/index.md").write_text(text)
    figure = next((DOCS / "results/figures").rglob("curves_steps_narrow.svg"))
    for name in ("curves", "curves_narrow"):
        shutil.copy(figure, folder / f"docs/{name}.svg")
    words = ["-q", "-b", "html", "-c", DOCS, folder / "docs", folder / "site"]
    command = [sys.executable, "-m", "sphinx", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    return folder / "site", done.stderr


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder, warnings = build(tmp_path_factory.mktemp("site"), PAGE)
    assert not warnings
    return folder


@pytest.fixture
def opened(site, browser):  # noqa: F811
    def open_at(pixels: int):
        width(browser, pixels, 800, mobile=pixels < 500)
        browser.get((site / "index.html").as_uri())
        return browser

    return open_at


def test_formulas_are_set_when_the_site_is_built(site):
    text = (site / "index.html").read_text()
    assert text.count("<math") == 3
    assert not re.search(r"\\(arg|begin|mathrm|bar)|\$\$", text)


def test_a_formula_that_cannot_be_set_is_a_warning(tmp_path):
    assert r"\unknown" in build(tmp_path, "# A page\n\n$\\unknown{x}$\n")[1]


def test_a_page_loads_nothing_from_the_network(site):
    text = (site / "index.html").read_text()
    loaded = re.findall(r"<(?:script|link|img|source)[^>]*?(?:src|href)=\"([^\"]+)", text)
    assert loaded
    styles = [path.read_text() for path in site.rglob("*.css")]
    loaded += [url for style in styles for url in re.findall(r"url\([\"']?([^)\"']+)", style)]
    assert [url for url in loaded if re.match("(https?:)?//", url)] == []
    assert (site / "_static/STIXTwoMath.woff2").exists()


@pytest.mark.parametrize("pixels", [390, 1280])
def test_a_page_is_no_wider_than_its_window_and_words_of_code_are_whole(opened, pixels):
    page = opened(pixels)
    widths = "const all = document.scrollingElement; return [all.scrollWidth, all.clientWidth]"
    whole, window = page.execute_script(widths)
    assert whole <= window <= pixels
    rows = "return [...document.querySelectorAll('p code .pre')].map(one => one.offsetHeight)"
    assert len(set(page.execute_script(rows))) == 1
    lines = "return getComputedStyle(document.querySelector('.highlight-console pre')).whiteSpace"
    assert page.execute_script(lines) == "pre"


@pytest.mark.parametrize(("pixels", "shown"), [(390, "curves_narrow.svg"), (1280, "curves.svg")])
def test_a_phone_gets_the_narrow_figure(opened, pixels, shown):
    script = "return [...document.querySelectorAll('article img')]"
    script += ".filter(one => one.offsetWidth).map(one => one.src.split('/').at(-1))"
    assert opened(pixels).execute_script(script) == [shown]


def test_a_figure_on_a_phone_has_text_of_eleven_pixels(opened):
    for figure in (DOCS / "results/figures").rglob("*_narrow.svg"):
        points = float(re.search(r'<svg[^>]* width="([\d.]+)pt', figure.read_text())[1])
        script = "return document.querySelector('img.on-narrow').offsetWidth"
        assert 9 * opened(390).execute_script(script) / points >= 11, figure


def test_the_copy_button_leaves_out_prompts_and_what_is_printed(opened):
    page = opened(1280)
    listen = (
        "document.addEventListener('copy', event => { window.copied = event.target.value }, true)"
    )
    page.execute_script(listen)
    button = page.find_element("css selector", ".highlight-console .copybtn")
    centre = "{block: 'center', behavior: 'instant'}"
    page.execute_script(f"arguments[0].scrollIntoView({centre})", button)
    ActionChains(page).move_to_element(button).click().perform()
    wait(page, "window.copied")
    copied = page.execute_script("return window.copied")
    assert copied.splitlines() == [LONG, "python second.py"]


def test_a_table_with_an_empty_head_becomes_cards(opened):
    script = "return [...document.querySelectorAll('table')[0].querySelectorAll('td')]"
    script += ".map(cell => cell.getBoundingClientRect().top)"
    first, second = opened(1280).execute_script(script)
    assert first == second
    first, second = opened(390).execute_script(script)
    assert first < second
