"""The waterfall page in a real Chromium: it draws, opens, searches, zooms, prints, and fetches nothing."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from glasshell.messages import connection as c
from glasshell.messages import transport as t
from tests.needs import absent

from .connection import client_connection
from .tape import Tape
from .test_waterfall import HOSTILE, page

CHROMIUM = shutil.which("chromium")
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 740}

Page: TypeAlias = Any
Show: TypeAlias = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        absent("chromium is not installed (make peers)")
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Iterator[Show]:
    """show(tape, ...): the page of these connections, opened; what it complained of fails the test."""
    complaints: list[str] = []
    contexts = []

    def opened(*tapes: Tape, anchor: str = "", **options: Any) -> Page:
        path = tmp_path / f"page{len(contexts)}.html"
        path.write_text(page(*tapes), "utf-8")
        context = browser.new_context(**{"viewport": WIDE, **options})
        contexts.append(context)
        shown = context.new_page()
        shown.on("console", lambda message: complaints.append(message.text))
        shown.on("pageerror", lambda error: complaints.append(str(error)))
        shown.on("dialog", lambda dialog: complaints.append(dialog.message))
        shown.on("request", lambda r: None if r.url.startswith("file:") else complaints.append(r.url))
        shown.goto(f"file://{path}{anchor}")
        return shown

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


def stalled() -> Tape:
    """The connection by hand, with a wait that is a stall."""
    tape = client_connection(data=20)
    tape.state("started", role="client", wall_time=1_795_345_200.5, software="glasshell", version="1")
    tape.sent(c.ChannelOpen("session", 1, 100, 100, c.SessionOpen()))
    tape.wait(0.5)
    tape.received(c.ChannelOpenConfirmation(1, 8, 100, 100))
    return tape


def settled(shown: Page) -> None:
    """Two frames later everything that was asked for is drawn."""
    shown.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def spoken(shown: Page) -> str:
    text = shown.inner_text("#range")
    assert isinstance(text, str)
    return text


def test_it_says_and_draws_what_happened(show: Show) -> None:
    shown = show(stalled())
    assert shown.inner_text("h1").replace("\u00a0", " ").startswith("573 ms, 12 round trips: ")
    assert "192.0.2.7 port 22" in shown.inner_text("#who")
    assert shown.locator("#stage svg .tick").count() > 20
    assert shown.locator("#stage svg .stall-text").count() >= 1
    assert "the server opened the session slowly" in shown.inner_text("#stalls")
    assert shown.locator("#phases tbody tr").count() == 7
    assert shown.locator("#rows .line").count() == shown.evaluate(
        "JSON.parse(document.getElementById('data').textContent).connections[0].rows.length"
    )


def test_a_message_opens_and_its_bytes_light_up(show: Show) -> None:
    shown = show(client_connection())
    line = shown.locator(".line", has_text="SSH_MSG_SERVICE_REQUEST")
    line.click()
    assert line.get_attribute("aria-expanded") == "true"
    detail = shown.locator(".detail")
    assert "RFC 4253 §10" in detail.inner_text()
    field = detail.locator(".fields li", has_text="service_name")
    field.hover()
    lit = detail.locator(".hex b.on")
    assert bytes.fromhex("".join(lit.all_inner_texts()))[4:] == b"ssh-userauth"
    assert shown.url.endswith(line.evaluate("each => '#' + each.parentElement.id"))
    line.click()
    assert shown.locator(".detail").count() == 0


def test_the_keyboard_alone(show: Show) -> None:
    shown = show(client_connection())
    shown.keyboard.press("/")
    assert shown.evaluate("document.activeElement.id") == "find"
    shown.keyboard.press("Escape")
    shown.locator(".line").first.focus()
    for _ in range(3):
        shown.keyboard.press("ArrowDown")
    shown.keyboard.press("Enter")
    assert shown.locator(".line").nth(3).get_attribute("aria-expanded") == "true"
    shown.focus("#stage")
    before = spoken(shown)
    shown.keyboard.press("+")
    settled(shown)
    zoomed = spoken(shown)
    assert zoomed != before
    shown.keyboard.press("ArrowRight")
    settled(shown)
    assert spoken(shown) != zoomed
    shown.keyboard.press("0")
    settled(shown)
    assert spoken(shown) == before


def test_wheel_and_drag(show: Show) -> None:
    shown = show(client_connection())
    box = shown.locator("#stage").bounding_box()
    x, y = box["x"] + 700, box["y"] + 40
    before = spoken(shown)
    shown.mouse.move(x, y)
    shown.mouse.wheel(0, -400)  # the page scrolls: the time line has not been clicked
    settled(shown)
    assert spoken(shown) == before
    shown.focus("#stage")
    for _ in range(4):
        shown.mouse.wheel(0, -200)
    settled(shown)
    zoomed = spoken(shown)
    assert zoomed != before
    shown.mouse.move(x, y)
    shown.mouse.down()
    shown.mouse.move(x - 200, y, steps=5)
    shown.mouse.up()
    settled(shown)
    assert spoken(shown) != zoomed
    shown.click("#zoom-all")
    settled(shown)
    assert spoken(shown) == before


def test_a_click_on_the_time_line_opens_the_message(show: Show) -> None:
    shown = show(client_connection())
    shown.click("#zoom-login")
    settled(shown)
    box = shown.locator("#stage svg .label", has_text="SERVICE_REQUEST").bounding_box()
    shown.mouse.move(box["x"], box["y"] + box["height"] / 2)
    assert "SSH_MSG_SERVICE_REQUEST" in shown.inner_text("#tip")
    shown.mouse.click(box["x"], box["y"] + box["height"] / 2)
    assert shown.locator(".line[aria-expanded=true]").inner_text().count("SSH_MSG_SERVICE_REQUEST") == 1


def test_search_and_filter(show: Show) -> None:
    shown = show(client_connection())
    shown.fill("#find", "ssh-userauth")
    shown.locator("#count", has_text="2 of").wait_for()
    visible = shown.locator("#rows li:not(.off) .line")
    assert [text.split("\n")[0] for text in visible.locator("b").all_inner_texts()] == [
        "SSH_MSG_SERVICE_REQUEST", "SSH_MSG_SERVICE_ACCEPT",
    ]  # fmt: skip
    shown.select_option("#way", "0")
    assert visible.count() == 1
    shown.fill("#find", "")
    shown.select_option("#way", "")
    shown.select_option("#phase", label="4 authentication")
    visible.filter(has_text="SSH_MSG_USERAUTH_SUCCESS").wait_for()
    names = {text.split("\n")[0] for text in visible.locator("b").all_inner_texts()}
    assert {"SSH_MSG_USERAUTH_REQUEST", "SSH_MSG_USERAUTH_SUCCESS"} <= names
    assert "SSH_MSG_CHANNEL_OPEN" not in names


def test_a_link_leads_to_a_message(show: Show) -> None:
    shown = show(client_connection(), anchor="#m8")
    assert shown.locator("#m8 .line").get_attribute("aria-expanded") == "true"
    shown.wait_for_function("document.querySelector('#m8').getBoundingClientRect().top >= 0")


def test_several_connections(show: Show) -> None:
    shown = show(client_connection(), stalled(), anchor="#c1m5")
    assert shown.input_value("#connection") == "1"
    assert shown.inner_text("h1").startswith("573")
    shown.select_option("#connection", "0")
    assert not shown.inner_text("h1").startswith("573")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("chosen", ["automatic", "dark", "light"])
def test_colours_can_be_told_apart(scheme: str, chosen: str, show: Show) -> None:
    shown = show(stalled(), color_scheme=scheme)
    while f"theme: {chosen}" != shown.inner_text("#theme"):
        shown.click("#theme")
    dark = (scheme if chosen == "automatic" else chosen) == "dark"
    back = luminance(shown, "--panel")
    assert (back < 0.1) is dark
    for name in ("--ink", "--soft", "--stall", "--wait"):  # WCAG 2.2, 1.4.3
        assert contrast(back, luminance(shown, name)) >= 4.5, name
    assert contrast(luminance(shown, "--mark"), luminance(shown, "--ink")) >= 4.5
    for name in ("--soft", "--stall"):
        assert contrast(luminance(shown, "--band-a"), luminance(shown, name)) >= 4.5, name


def luminance(shown: Page, name: str) -> float:
    """The relative luminance of a colour of the page (WCAG 2.2)."""
    text = shown.evaluate(f"getComputedStyle(document.documentElement).getPropertyValue('{name}').trim()")
    parts = [int(text[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: float, two: float) -> float:
    dim, bright = sorted((one, two))
    return (bright + 0.05) / (dim + 0.05)


@pytest.mark.parametrize("width", [360, 700, 1000, 2560])
def test_nothing_is_wider_than_the_window(width: int, show: Show) -> None:
    shown = show(stalled(), viewport={"width": width, "height": 800})
    shown.locator(".line", has_text="SSH_MSG_KEXINIT").first.click()
    settled(shown)
    assert shown.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", [360, 1280, 2560])
def test_labels_do_not_lie_on_each_other(width: int, show: Show) -> None:
    shown = show(stalled(), viewport={"width": width, "height": 800})
    for _ in range(3):
        texts = shown.locator("#stage svg .label, #stage svg .stall-text, #stage svg .trip-text")
        boxes = texts.evaluate_all(
            "all => all.map(e => e.getBoundingClientRect())"
            ".map(b => [b.left, b.right, b.top + 2, b.bottom - 2])"
        )
        for n, one in enumerate(boxes):
            for two in boxes[n + 1 :]:
                assert one[1] <= two[0] + 1 or two[1] <= one[0] + 1 or one[3] <= two[2] or two[3] <= one[2]
        shown.focus("#stage")
        shown.keyboard.press("+")
        settled(shown)


def test_on_paper_everything_stands(show: Show, tmp_path: Path) -> None:
    shown = show(stalled())
    shown.locator(".line", has_text="SSH_MSG_SERVICE_REQUEST").click()
    shown.click("#zoom-login")
    settled(shown)
    zoomed = spoken(shown)
    shown.pdf(path=tmp_path / "page.pdf", format="A4")
    if shutil.which("pdftotext") is None:
        absent("pdftotext is not installed (make peers)")
    text = subprocess.run(["pdftotext", "-layout", tmp_path / "page.pdf", "-"], check=True,
                          capture_output=True, text=True).stdout  # fmt: skip
    for words in ("round trips", "Where the time went", "SSH_MSG_DISCONNECT", "service_name", "KEXINIT"):
        assert words in text
    shown.emulate_media(media="screen")
    settled(shown)
    assert spoken(shown) == zoomed


def test_a_peer_can_run_nothing(show: Show) -> None:
    tape = stalled()
    tape.received(t.Debug(True, HOSTILE), t.Disconnect(2, HOSTILE))
    tape.state("error", type="X", text=HOSTILE, hint="")
    shown = show(tape)
    assert "alert(1)" in shown.inner_text("#error")
    shown.locator(".line", has_text="SSH_MSG_DEBUG").first.click()
    shown.hover("#stage")
    assert "onerror" in shown.inner_text(".detail")
    assert shown.locator("img, iframe").count() == 0
    assert shown.locator("script").count() == 2


def test_twenty_thousand_messages_answer_at_once(show: Show) -> None:
    tape = client_connection(data=0)
    for n in range(20_000):
        tape.received(c.ChannelRequest(0, "env", False, c.Env(f"v{n}", "x")))
    shown = show(tape)
    assert shown.locator("#rows .line").count() == 6000
    took = shown.evaluate(
        """async () => {
            const began = performance.now();
            document.getElementById('zoom-in').click();
            await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
            return performance.now() - began;
        }"""
    )
    assert took < 1500
