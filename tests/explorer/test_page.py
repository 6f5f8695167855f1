"""The page is one file that asks nothing of a network, runs only its own script, and holds no token as markup."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from atlases import HOSTILE, make_atlas, make_evidence, make_others
from explorer_payload import unpack
from headatlas.analysis.film import Scene, make_film
from headatlas.errors import AtlasError
from headatlas.explorer import build_film, build_page, write_page
from headatlas.explorer.payload import build_payload
from needs import ROOT

NAMESPACES = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xhtml", "http://www.w3.org/1998/Math/MathML",
              "http://www.w3.org/1999/xlink"}  # fmt: skip
"""Names of XML's vocabularies, which no browser fetches."""


class Page(HTMLParser):
    """Elements with their attributes, and the text of each script, style and title, as a browser would part them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open = tag
        if tag in ("script", "style", "title"):
            self.texts.append((tag, ""))

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open in ("script", "style", "title"):
            tag, text = self.texts[-1]
            self.texts[-1] = (tag, text + data)

    def of(self, tag: str) -> list[str]:
        return [text for name, text in self.texts if name == tag]

    @property
    def policy(self) -> dict[str, list[str]]:
        (content,) = (
            attributes["content"] or ""
            for tag, attributes in self.elements
            if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
        )
        return {name: values for name, *values in (part.split() for part in content.split(";"))}


@pytest.fixture(scope="module")
def text() -> str:
    return build_page(make_evidence(make_atlas(7, 3, chance=True)))


@pytest.fixture(scope="module", params=["explorer", "film"])
def each_text(request: pytest.FixtureRequest, text: str) -> str:
    if request.param == "explorer":
        return text
    return build_film(make_film([Scene(f"step-{step}", step, make_atlas(3, 2, seed=step)) for step in range(2)]))


def test_the_policy_allows_this_script_and_this_style_and_nothing_else(each_text: str) -> None:
    page = Page(each_text)
    _, script = page.of("script")
    (style,) = page.of("style")
    digests = [
        "'sha256-" + base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() + "'" for part in (script, style)
    ]
    assert page.policy == {
        "default-src": ["'none'"],
        "script-src": [digests[0]],
        "style-src": [digests[1]],
        "img-src": ["data:", "blob:"],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
    }


def test_the_policy_stands_before_everything_that_it_governs(each_text: str) -> None:
    first = min(each_text.index("<style"), each_text.index("<script"))
    assert each_text.index("Content-Security-Policy") < first


def test_no_address_of_a_network_is_in_the_page(each_text: str) -> None:
    assert set(re.findall(r"(?:https?|wss?|ftp|file)://[^\s\"'`)]*", each_text)) <= NAMESPACES
    for tag, attributes in Page(each_text).elements:
        if tag == "link":
            assert attributes["rel"] == "icon" and str(attributes["href"]).startswith("data:image/svg+xml;base64,")
            continue
        assert not {"src", "href", "action", "srcset", "data"} & set(attributes), tag
        assert tag not in ("iframe", "object", "embed", "base"), tag
        assert not [name for name in attributes if name.startswith("on")], tag


def test_hostile_tokens_are_in_the_data_and_nowhere_in_the_markup(text: str) -> None:
    page = Page(text)
    data, _ = page.of("script")
    assert re.fullmatch(r"[A-Za-z0-9+/]+=*", data)
    words = unpack(base64.b64decode(data))[0]["words"]
    assert set(HOSTILE) <= set(words)
    markup = text.replace(data, "")
    for token in ("</script><b>", "\x1b", "\u202e", "👩‍🚀", "<|im_start|>"):
        assert token not in markup
    assert [tag for tag, _ in page.elements].count("script") == 2
    assert "b" not in [tag for tag, _ in page.elements]


def test_the_page_s_data_is_the_payload(text: str) -> None:
    atlas = make_evidence(make_atlas(7, 3, chance=True))
    assert base64.b64decode(Page(text).of("script")[0]) == build_payload([atlas])


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_of_a_model_stays_text(name: str) -> None:
    page = Page(build_page(make_atlas(3, 2, name=name)))
    assert len(page.of("script")) == 2 and len(page.of("title")) == 1
    assert {tag for tag, _ in page.elements} == {
        "html", "head", "meta", "link", "title", "style", "body", "div", "noscript", "script"
    }  # fmt: skip
    assert not {"\x1b", "\u202e"} & set(page.of("title")[0])


def test_a_hostile_model_that_is_compared_by_function_stays_text() -> None:
    page = Page(build_page(*make_others()))
    assert "b" not in {tag for tag, _ in page.elements} and len(page.of("script")) == 2
    assert page.of("title") == ["small and </script><b> · headatlas"]


def test_the_file_is_the_page(tmp_path: Path) -> None:
    atlas = make_atlas(3, 2)
    assert write_page(tmp_path / "page.html", atlas).read_text("utf-8") == build_page(atlas)


def test_a_folder_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(AtlasError, match=r"none/page\.html: cannot be written \("):
        write_page(tmp_path / "none" / "page.html", make_atlas(3, 2))


def test_the_page_of_two_holds_both_in_the_order_given() -> None:
    one, two = (make_atlas(3, 2, name=name) for name in ("base", "tuned"))
    page = Page(build_page(one, two))
    assert page.of("title") == ["base and tuned · headatlas"]
    assert base64.b64decode(page.of("script")[0]) == build_payload([one, two])


def test_relations_have_the_same_names_in_the_page_as_elsewhere():
    from headatlas.relations.titles import WORDS

    text = (ROOT / "explorer" / "src" / "names.ts").read_text("utf-8")
    table = text[text.index("const WORDS") : text.index("};")]
    assert dict(re.findall(r'(\w+): "(\w+)",', table)) == WORDS
