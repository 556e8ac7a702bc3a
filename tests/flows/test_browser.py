"""SIMULATED people at Label Studio's real pages, in a headless Chromium: what they click is what the version holds.

What a person does there is to be seen here; every case of the tiers is in `test_annotate`, through the server's API.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Page, Response, expect, sync_playwright

from components.annotation import batch
from components.annotation.batch import reduced
from components.annotation.label_studio import INSTRUCTION, TABS
from components.annotation.task_store import Task
from components.annotation.workflow import State
from components.data.sample import METADATA
from components.models.text_encoder import TextEncoder
from flows import annotate
from flows.environment import ENCODER
from tests.components.annotation.simulated import PASSWORD
from tests.flows.test_annotate import ANIMAL, FOOD, Labelling, truth
from tests.flows.test_annotate import labelling as labelling  # a fixture

expect.set_options(timeout=30_000)  # as long as a click waits; the default fails on a busy machine
Decide = Callable[[str], tuple[str, str]]  # a task's caption → the category to choose, and why


@pytest.fixture
def chromium() -> Path:
    """The machine's own Chromium, or the one that Playwright has been told to fetch."""
    with sync_playwright() as playwright:
        found = Path(shutil.which("chromium") or playwright.chromium.executable_path)
    if not found.exists():
        pytest.skip("no browser: install Debian's package `chromium`, or run `playwright install chromium`")
    return found


@contextmanager
def signed_in(chromium: Path, labelling: Labelling, person: str) -> Iterator[Page]:
    """The project's page in a browser of the person's own; it closes, as no flow can run beside Playwright's loop."""
    one = labelling.people[person]
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=chromium) as browser:
        page = browser.new_page(base_url=labelling.server.url)
        page.goto(f"/user/login/?next=/projects/{one.project.id}/data")
        page.locator("[name=email]").fill(one.client.users.whoami().email)
        page.locator("[name=password]").fill(PASSWORD)
        page.get_by_role("button", name="Log in").click()
        yield page


def label_tab(page: Page, tab: str, decide: Decide) -> dict[str, tuple[str, str]]:
    """Go through a tab as its instruction says; returns what was submitted and the note shown, by caption."""
    submitted = {}
    page.get_by_text(TABS[tab]).click()
    page.get_by_role("button", name="Toggle open").click()
    with page.expect_response(_next) as answer:
        page.get_by_text("Label Tasks As Displayed").click()
    expect(page.get_by_text(INSTRUCTION)).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_text(INSTRUCTION)).to_be_hidden()
    while answer.value.ok:
        caption, note = (page.locator(".lsf-richtext__line").nth(place) for place in (0, 1))
        expect(caption).to_have_text(text := answer.value.json()["data"]["text"])
        expect(page.get_by_role("img", name="image")).to_be_visible()
        category, why = decide(text)
        submitted[text] = category, note.inner_text()
        page.get_by_role("checkbox", name=category).check()  # or left, where the proposal has it
        if why:
            page.get_by_placeholder("why (optional)").fill(why)
            page.keyboard.press("Enter")
        with page.expect_response(_next) as answer:
            page.get_by_role("button", name="Submit current annotation").click()
    expect(page.get_by_text("No More Tasks Left in Queue")).to_be_visible()
    return submitted


def chosen_by(labelling: Labelling, settled: dict[str, str], asked: list[Task]) -> set[str]:
    """The batch after `asked` of a chooser that knows these verdicts."""
    section = labelling.params.annotation
    pool = batch.read_pool(labelling.data / "split", section.template)
    x_ND = reduced(TextEncoder(ENCODER).embed(pool.texts).numpy())
    likely_NC = batch.likely(pool, x_ND, settled, section.tiers.expected["annotate"])
    names = {task.sample for task in asked}
    return set(batch.choose(pool, x_ND, likely_NC, names, section.batch, section.tiers.gold_share))


def labels(folder: Path) -> dict[str, str]:
    """The label of every caption in an image folder."""
    rows = map(json.loads, (folder / METADATA).read_text(encoding="utf-8").splitlines())
    return {row["text"]: row["label"] for row in rows}


@pytest.mark.usefixtures("assets", "prefect_server")
@pytest.mark.timeout(900)  # the first run on a machine installs Label Studio
def test_what_people_click_becomes_the_version_and_the_next_batch_learns_of_it(
    labelling: Labelling, chromium: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(annotate, "ENCODER", ENCODER)  # one that knows food from animals
    annotate.upload()
    asked = labelling.tasks()
    captions = set(labelling.texts(State.ANNOTATE))
    for name in ("ann", "bob"):
        with signed_in(chromium, labelling, name) as page:
            shown = label_tab(page, "annotate", lambda text: (truth(text), ""))
        assert shown == {text: (truth(text), "") for text in captions}
    annotate.reconcile()

    in_review = set(labelling.texts(State.REVIEW))
    disputed = min(in_review)
    other = FOOD if truth(disputed) == ANIMAL else ANIMAL
    with signed_in(chromium, labelling, "review") as page:
        shown = label_tab(page, "review", lambda text: (other, "look again") if text == disputed else (truth(text), ""))
    wanted = {text: truth(text) for text in in_review} | {disputed: other}
    assert {text: said for text, (said, _) in shown.items()} == wanted
    assert all(note == f"{truth(text)}: 2" for text, (_, note) in shown.items())
    annotate.reconcile()
    fresh = {task.sample for task in labelling.tasks()} - {task.sample for task in asked}
    assert fresh == chosen_by(labelling, labelling.settled(), asked) != chosen_by(labelling, {}, asked)

    first = labelling.versions()
    with signed_in(chromium, labelling, "arbiter") as page:
        shown = label_tab(page, "arbitrate", lambda _: (other, ""))
    assert shown == {disputed: (other, f"{truth(disputed)}: 2; the reviewer: {other} look again")}
    annotate.reconcile()
    (name,) = labelling.versions().keys() - first.keys()
    assert labelling.versions()[name] == labelling.settled() and len(labelling.settled()) == len(in_review)
    assert labels(labelling.data / "annotated" / name) == labels(tmp_path / "set") | wanted


def _next(response: Response) -> bool:
    return "id=next_task" in response.url
