"""Pages: text is escaped, what is missing is an error, pictures are inside."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from jinja2 import UndefinedError
from PIL import Image

from retina_fm._io import pages


def test_names_are_escaped_and_nothing_is_loaded_from_elsewhere() -> None:
    text = pages.render(
        "gallery.html", title="<b>", note="a & b", marked=False, same="", rows=[[("u", "<i>", "", ())]]
    )
    assert "<title>&lt;b&gt;</title>" in text
    assert "a &amp; b" in text
    assert "<b>&lt;i&gt;</b>" in text
    assert "http" not in text
    assert "<link" not in text


@pytest.mark.parametrize("name", sorted(pages._environment().list_templates(["html"])))
def test_every_page_is_a_template_that_can_be_loaded(name: str) -> None:
    assert pages._environment().get_template(name).name == name


def test_a_pages_own_style_comes_after_the_shared_one() -> None:
    page = pages.render("serve.html", title="t", model="m", needs_token=True)
    assert page.count("<style>") == 1 and page.index("prefers-color-scheme:dark") < page.index("#drop{")


def test_a_value_that_is_missing_is_no_gap_in_the_page() -> None:
    with pytest.raises(UndefinedError, match="note"):
        pages.render("gallery.html", title="t", marked=False, same="", rows=[])


def test_a_picture_is_shrunk_and_stands_in_its_address(tmp_path: Path) -> None:
    image = Image.fromarray(np.full((40, 80, 3), 200, np.uint8))
    head, data = pages.picture_url(image, 20).split(",")
    assert head == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as shown:
        assert shown.size == (20, 10)
    assert image.size == (80, 40)
    image.save(tmp_path / "a.png")
    assert pages.file_url(tmp_path / "a.png").startswith("data:image/png;base64,")


def test_a_name_that_is_no_text_can_be_on_a_page() -> None:
    text = pages.render("gallery.html", title="x\udcff", note="", marked=False, same="", rows=[])
    assert "<title>x\\xff</title>" in text and text.encode()


def test_every_page_has_the_one_stylesheet() -> None:
    folder = Path(pages.__file__).with_name("templates")
    for template in folder.glob("*.html"):
        text = template.read_text(encoding="utf-8")
        assert "style=" not in text
        assert ("<style>" in text) == (template.name in ("base.html", "notebook.html"))
        assert ("<style>" in text) == ('include "style.css"' in text)
