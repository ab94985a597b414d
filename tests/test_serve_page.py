"""The page as a person uses it, in a browser: type, watch, stop, point, set, reload; nothing leaves this machine."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from puna.serve.guard import Door
from serving import Running, plain, running

sync_api = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
CHROMIUM = shutil.which("chromium")
RUN = Path(__file__).parent / "fixtures" / "run-1"
SIZES = {"wide": (1280, 860), "narrow": (380, 780)}
SHOTS = os.environ.get("PUNA_SHOTS")  # a folder; pictures of what was tried go there

pytestmark = [
    pytest.mark.prove,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on PATH"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        # In a container Chromium's own sandbox has no user namespaces; what it shows here is this repository's.
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(plain(), run=RUN) as server:
        yield server


class Tab:
    """A tab, what it asked for, and what went wrong in it."""

    def __init__(self, browser: Any, server: Running, size: str = "wide") -> None:
        width, height = SIZES[size]
        self.context = browser.new_context(viewport={"width": width, "height": height})
        self.asked: list[str] = []
        self.wrong: list[str] = []
        self.size = size
        self.context.on("request", lambda request: self.asked.append(request.url))
        self.page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("console", lambda line: self.wrong.append(line.text) if line.type == "error" else None)
        self.page.set_default_timeout(20_000)
        self.url = server.url

    def open(self, path: str = "/") -> Any:
        self.page.goto(self.url + path)
        self.page.wait_for_selector("body[data-ready]")
        return self.page

    def settings(self, **values: str) -> None:
        if self.size == "narrow":
            self.page.click("#settings-fold > summary")
        for name, value in values.items():
            self.page.fill(f"#{name}", value)

    def shot(self, name: str) -> None:
        if SHOTS:
            self.page.screenshot(path=Path(SHOTS) / f"{name}-{self.size}.png")

    def close(self) -> None:
        """Nothing went wrong, no sideways scrolling, and every request was for this server."""
        assert self.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        self.context.close()
        assert self.wrong == []
        assert [url for url in self.asked if not url.startswith(self.url + "/")] == []


@pytest.fixture(params=list(SIZES))
def tab(request: pytest.FixtureRequest, browser: Any, server: Running) -> Iterator[Tab]:
    opened = Tab(browser, server, request.param)
    yield opened
    opened.close()


def test_a_text_is_typed_gone_on_with_and_had_again(tab: Tab, server: Running) -> None:
    page = tab.open()
    tab.settings(max_tokens="30", seed="4", temperature="0.7")
    page.fill("#prompt", "the cat")
    page.click("#write-form .go")
    page.wait_for_selector("#pages .meta button")
    body = {"prompt": "the cat", "max_tokens": 30, "seed": 4, "temperature": 0.7, "top_p": 0.95}
    expected = server.post("/v1/completions", body).json()["choices"][0]["text"]
    text = page.locator("#pages .text").evaluate("node => node.textContent")
    assert text == "the cat" + expected
    assert re.search(r"\d+ tokens · [\d.]+ tokens/s · first after [\d.]+ s · .* · seed 4", page.inner_text(".speed"))
    tab.shot("write")
    page.click("#pages button:has-text('Retry')")
    page.wait_for_selector("#pages .meta button")
    assert page.locator("#pages .text").evaluate("node => node.textContent") == text
    assert page.locator("#pages .sheet").count() == 1
    page.click("#pages button:has-text('Go on from here')")
    page.wait_for_selector("#pages .sheet:nth-child(2)")
    assert page.input_value("#prompt") == text


def test_each_token_tells_its_chance_and_what_else_was_likely(tab: Tab, server: Running) -> None:
    page = tab.open()
    tab.settings(max_tokens="12", seed="1", temperature="0")
    page.fill("#prompt", "the cat")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#pages .meta button")
    body = {"prompt": "the cat", "max_tokens": 12, "temperature": 0, "logprobs": 5}
    told = server.post("/v1/completions", body).json()["choices"][0]["logprobs"]
    first = page.locator("#pages .token").first
    first.hover()
    chance = 100 * 2.718281828 ** told["token_logprobs"][0]
    assert page.inner_text("#card .chosen b") == (f"{chance:.0f} %" if chance > 9.95 else f"{chance:.1f} %")
    assert page.locator("#card li").count() == 5
    assert page.locator("#card li.is").count() == 1
    tab.shot("hover")
    page.mouse.move(1, 1)
    assert page.locator("#card").is_hidden()
    page.locator("#pages .text").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#card").is_visible()
    page.keyboard.press("End")
    assert page.locator(".token").last.evaluate("node => node === document.activeElement")
    page.keyboard.press("Home")
    assert first.evaluate("node => node === document.activeElement")
    box = page.locator("#card").bounding_box()
    assert box
    assert 0 <= box["x"] <= box["x"] + box["width"] <= SIZES[tab.size][0]
    page.keyboard.press("Escape")
    assert page.locator("#card").is_hidden()


def test_it_streams_and_stops_when_told_to(tab: Tab, server: Running) -> None:
    page = tab.open()
    tab.settings(max_tokens="80", seed="2")
    page.fill("#prompt", "the")
    server.engine.pause_at = server.engine.steps + 6
    page.click("#write-form .go")
    page.wait_for_selector("#pages .token")
    assert page.locator("#write-form .stop").is_visible()
    assert page.locator("#write-form .go").is_hidden()
    tab.shot("streaming")
    page.keyboard.press("Escape")
    page.wait_for_selector("#pages .meta button")
    server.engine.pause_at = None
    server.engine.gate.set()
    server.quiet()
    assert "stopped" in page.inner_text(".speed")
    assert page.locator("#write-form .go").is_visible()


def test_a_talk_and_the_settings_are_there_after_a_reload(tab: Tab) -> None:
    page = tab.open("/#chat")
    tab.settings(max_tokens="9", seed="5", stop="zz")
    page.fill("#message", "hello\nthere")
    page.keyboard.press("Enter")
    page.wait_for_selector("#talk .meta button")
    said = page.locator("#talk .text").evaluate_all("nodes => nodes.map(node => node.textContent)")
    assert said[0] == "hello\nthere"
    tab.shot("chat")
    page.reload()
    page.wait_for_selector("body[data-ready]")
    assert page.locator("#talk .text").evaluate_all("nodes => nodes.map(node => node.textContent)") == said
    assert [page.input_value(f"#{name}") for name in ("max_tokens", "seed", "stop")] == ["9", "5", "zz"]
    page.fill("#message", "more")
    page.keyboard.press("Enter")
    page.wait_for_selector("#talk .sheet:nth-child(4) button:has-text('Retry')")
    assert page.locator("#talk button:has-text('Retry')").count() == 1
    page.click("#new-chat")
    assert page.locator("#talk .sheet").count() == 0


def test_what_a_model_writes_is_text_and_never_markup(browser: Any) -> None:
    engine = plain()
    spelt = engine.tokenizer.encode("<img src=x onerror=alert(1)><script>alert(2)</script>")
    with running(engine) as server:
        tab = Tab(browser, server)
        page = tab.open()
        tab.settings(max_tokens=str(len(spelt)))
        engine.says = spelt
        page.fill("#prompt", "<b>the</b>")
        page.click("#write-form .go")
        page.wait_for_selector("#pages .meta button")
        text = page.locator("#pages .text").evaluate("node => node.textContent")
        assert text == "<b>the</b><img src=x onerror=alert(1)><script>alert(2)</script>"
        assert page.locator("#pages img, #pages script, #pages b").count() == 0
        tab.close()


def test_the_report_is_shown_beside_without_rights(tab: Tab) -> None:
    page = tab.open()
    page.click("nav a[data-view=report]")
    frame = page.frame_locator("#report-frame")
    assert "LLaMA" in frame.locator("h1").inner_text()
    assert page.locator("#report-frame").get_attribute("sandbox") == ""
    assert page.url.endswith("/report")
    tab.shot("report")
    page.go_back()
    assert page.locator("#write").is_visible()
    page.goto(tab.url + "/report")
    frame.locator("h1").wait_for()


def test_errors_are_told_where_the_text_would_be(browser: Any) -> None:
    with running(plain(), template=False) as server:
        tab = Tab(browser, server)
        page = tab.open("/#chat")
        assert "--chat-template" in page.inner_text("#no-chat")
        page.fill("#message", "hello")
        page.keyboard.press("Enter")
        page.wait_for_selector("#talk .meta button")
        page.click("nav a[data-view=report]")
        assert "puna report" in page.inner_text("#no-report")
        page.click("nav a[data-view=write]")
        server.engine.poison = True
        page.fill("#prompt", "the")
        page.click("#write-form .go")
        page.wait_for_selector(".notice.wrong")
        assert page.inner_text(".notice.wrong") == "logits are not finite"
        tab.shot("error")
        server.engine.poison = False
        page.click("#pages button:has-text('Retry')")
        page.wait_for_selector("#pages .token")
        tab.close()


def test_a_key_is_asked_for_and_kept_for_the_tab(browser: Any) -> None:
    key = "a-key-of-twenty-characters"
    with running(plain(), door=Door(key=key), run=RUN) as server:
        tab = Tab(browser, server)
        tab.page.goto(server.url)
        tab.page.fill("#key", "wrong")
        tab.page.keyboard.press("Enter")
        tab.page.wait_for_function("document.getElementById('key').value === ''")
        tab.shot("key")
        tab.page.fill("#key", key)
        tab.page.keyboard.press("Enter")
        tab.page.wait_for_selector("body[data-ready]")
        tab.page.reload()
        tab.page.wait_for_selector("body[data-ready]")
        tab.page.click("nav a[data-view=report]")
        tab.page.frame_locator("#report-frame").locator("h1").wait_for()
        tab.wrong = [line for line in tab.wrong if "401" not in line]
        tab.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_are_readable_in_both_colours(browser: Any, server: Running, scheme: str) -> None:
    """Contrast of at least 4.5 (WCAG AA), also on what is shaded most."""
    context = browser.new_context(color_scheme=scheme)
    page = context.new_page()
    page.goto(server.url)
    page.wait_for_selector("body[data-ready]")
    pairs = page.evaluate(CONTRASTS)
    context.close()
    assert {name: ratio for name, ratio in pairs.items() if ratio < 4.5} == {}


CONTRASTS = """() => {
  const draw = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const seen = (...colours) => {
    for (const colour of colours) { draw.fillStyle = colour; draw.fillRect(0, 0, 1, 1); }
    return [...draw.getImageData(0, 0, 1, 1).data].slice(0, 3).map(value => {
      value /= 255; return value <= .03928 ? value / 12.92 : ((value + .055) / 1.055) ** 2.4; });
  };
  const light = ([r, g, b]) => .2126 * r + .7152 * g + .0722 * b;
  const ratio = (one, two) => {
    const [a, b] = [light(one), light(two)].sort((x, y) => y - x); return (a + .05) / (b + .05); };
  const style = (selector, name) => getComputedStyle(document.querySelector(selector))[name];
  const paper = style("body", "backgroundColor");
  const made = document.createElement("i"); made.className = "level-4"; document.body.append(made);
  const shade = getComputedStyle(made).backgroundColor; made.remove();
  return {
    ink: ratio(seen(paper), seen(style("body", "color"))),
    muted: ratio(seen(paper), seen(style(".hint", "color"))),
    shaded: ratio(seen(paper, shade), seen(style("body", "color"))),
    button: ratio(seen(style(".go", "backgroundColor")), seen(style(".go", "color"))),
  };
}"""
