"""`curation serve` in a real browser, over hostile names: sign in, with scripts and without; tests/e2e/test_airflow.py walks it all."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.portal.conftest import BATCH, NOW

CHROMIUM = shutil.which("chromium")
START_LIMIT_S = 60.0
LIMIT_MS = 90_000  # a busy machine makes no page false

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium: apt-get install chromium")


@pytest.fixture(scope="module")
def served(recorded, tmp_path_factory) -> Iterator[tuple[str, str]]:
    """Address and token of a running `curation serve`."""
    log = tmp_path_factory.mktemp("serve") / "out"
    arguments = ["curation", "serve", "--work", str(recorded.settings.work), "--port", "0"]
    command = [sys.executable, "-c", f"import sys; sys.argv = {arguments!r}; from curation.cli import main; main()"]
    environment = os.environ | {"CURATION_NOW": NOW, "PYTHONUNBUFFERED": "1"}
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment)
    try:
        end = time.monotonic() + START_LIMIT_S
        while (said := re.search(r"portal: (http://127\.0\.0\.1:\d+)/.*\ntoken:  (\S+)", log.read_text(encoding="utf-8"))) is None:
            assert process.poll() is None, log.read_text(encoding="utf-8")
            assert time.monotonic() < end
            time.sleep(0.1)
        yield said.group(1), said.group(2)
    finally:
        process.terminate()
        process.wait(20)
    assert "Traceback" not in log.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as player:
        running = player.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]
        )
        yield running
        running.close()


def signed_in(browser: Any, served: tuple[str, str], **context: Any) -> Any:
    """A page behind the sign-in, and what it asked for and said."""
    address, token = served
    page = browser.new_context(**context).new_page()
    page.set_default_timeout(LIMIT_MS)
    page.heard, page.asked = [], []
    page.on("console", lambda message: page.heard.append(message.text))
    page.on("pageerror", lambda error: page.heard.append(str(error)))
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto(f"{address}/releases")
    assert page.url == f"{address}/login"
    page.fill("input[name=token]", token)
    page.click("button")
    page.wait_for_url(f"{address}/")
    return page


def test_hostile_names_fit_a_phone_and_bring_up_no_error(browser, served, recorded):
    """Pages full of markup and SQL, on a phone: each fits its width, shows no sensitive value, says nothing and asks nobody else."""
    page = signed_in(browser, served, viewport={"width": 390, "height": 900}, locale="en-GB")
    links = page.eval_on_selector_all(".nav a", "all => all.map(one => one.getAttribute('href'))")
    for link in (*links, f"/batches/{BATCH}", f"/releases/{recorded.release_id}", f"/trace?id={recorded.row_id}"):
        page.goto(served[0] + link)
        shown = page.inner_text("body")
        assert [needle for needle in recorded.needles if needle in shown] == [], link
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), link
    assert {urlsplit(served[0]).netloc} == {urlsplit(asked).netloc for asked in page.asked if not asked.startswith("data:")}
    assert [] == page.heard
    page.context.close()


def test_all_of_it_works_without_scripts(browser, served, recorded):
    """With scripts switched off: sign-in, the trace form and the language links work, and a page can be printed."""
    page = signed_in(browser, served, java_script_enabled=False, locale="en-GB")
    page.click('.nav a[href="/trace"]')
    page.fill("input[name=id]", recorded.clip_ids[5])
    page.click("form button")
    assert "blurred" in page.inner_text("main")
    assert page.url == f"{served[0]}/trace"  # what was typed in stands in no address
    page.click(".lang a[hreflang=zh]")
    page.fill("input[name=id]", recorded.clip_ids[5])
    page.click("form button")
    assert "模糊" in page.inner_text("main")
    assert page.pdf()[:5] == b"%PDF-"
    page.context.close()


def test_only_loopback_is_listened_on(served):
    """Another address of this machine, where it has one, does not answer on the port."""
    port = urlsplit(served[0]).port
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # asks the routing table; nothing is sent
        own = probe.getsockname()[0]
    if own.startswith("127."):
        pytest.skip("this machine has no other address")
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((own, port), timeout=2)
