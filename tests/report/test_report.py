"""The report page, as a browser shows it."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnzoo import compare
from tests import factories

HOSTILE = "</script><img src=x onerror='document.title=\"owned\"'>"


def write_report(folder: Path, out: Path) -> Path:
    assert compare.main([str(folder), "--out", str(out)]) == 0
    return out


def data_of(page: Path) -> Any:
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(encoding="utf-8"))
    assert match
    return json.loads(match[1])


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two networks with three seeds each, their curves and predictions; one row has a hostile setting."""
    root = factories.write_two_networks(tmp_path / "outputs")
    settings = factories.config("resnet", lr=0.3)
    settings["optimizer"]["_target_"] = f"own.{HOSTILE}"
    factories.write_completed(root, "resnet", 1, 0.85, config=settings, lr=0.3, command=HOSTILE)
    labels = np.arange(100) % 10
    for number, folder in enumerate(sorted(path.parent for path in root.rglob("result.json"))):
        lines = ["epoch,learning_rate,train_loss,train_accuracy,val_loss,val_accuracy"]
        lines += [
            f"{epoch},0.1,{2 / (epoch + 1)},{0.5 + epoch / 100},{2.1 / (epoch + 1)},{0.4 + epoch / 100}"
            for epoch in range(20)
        ]
        (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
        accuracy = json.loads((folder / "result.json").read_text())["test_accuracy"]
        factories.write_predictions(folder, np.arange(100) < round(100 * accuracy), np.roll(labels, number))
    return root


def test_numbers_are_those_of_the_runs(runs: Path, tmp_path: Path) -> None:
    data = data_of(write_report(runs, tmp_path / "report.html"))
    assert [row["label"].partition(" ")[0] for row in data["rows"]] == ["resnet", "densenet", "resnet"]
    assert data["rows"][0]["mean"] == pytest.approx(0.91)
    assert data["rows"][0]["std"] == pytest.approx(0.002)
    (cells,) = (column["cells"] for column in data["columns"] if column["key"] == "test")
    assert cells[0] == "91.00 ± 0.20"
    curve = data["curves"][1]["val_accuracy"]
    assert (curve["n"], curve["epochs"]) == (3, [*range(1, 21)])
    assert curve["mean"] == pytest.approx([0.4 + epoch / 100 for epoch in range(20)])
    assert curve["std"] == pytest.approx([0] * 20, abs=1e-12)
    confusion = np.array(data["classes"][0]["confusion"])
    assert confusion.sum() == 300
    assert confusion.trace() == 91 + 91 + 91  # 0.91, 0.912 and 0.908 of 100 images
    assert data["settings"]["keys"] == ["model._target_", "optimizer._target_"]  # lr follows from the latter
    assert any("Holm" in note for note in data["notes"])
    assert any("the wrongly classified images are not shown" in note for note in data["notes"])


def test_what_a_run_lacks_is_said_once_for_all(tmp_path: Path) -> None:
    page = write_report(factories.write_two_networks(tmp_path / "outputs"), tmp_path / "report.html")
    notes = [note for note in data_of(page)["notes"] if note.startswith("without")]
    assert len(notes) == 2
    assert all(note.count("seed") == 6 for note in notes)


def test_settings_are_no_longer_than_they_need_to_be(tmp_path: Path) -> None:
    """A search draws rates of 17 digits; rates that six digits do not tell apart keep all of theirs."""
    for lr in (0.0447314984304720, 0.1):
        factories.write_completed(tmp_path / "search", "resnet", 1, 0.9, lr=lr)
    page = write_report(tmp_path / "search", tmp_path / "report.html")
    assert sorted(data_of(page)["settings"]["texts"]["optimizer.lr"]) == ["0.0447315", "0.1"]
    for lr in (0.10000001, 0.10000002):
        factories.write_completed(tmp_path / "close", "resnet", 1, 0.9, lr=lr)
    page = write_report(tmp_path / "close", tmp_path / "report.html")
    assert sorted(data_of(page)["settings"]["texts"]["optimizer.lr"]) == ["0.10000001", "0.10000002"]


def test_many_runs_stay_small(tmp_path: Path) -> None:
    factories.write_many(tmp_path / "outputs", 200, seeds=5)
    for folder in (tmp_path / "outputs").iterdir():
        lines = ["epoch,learning_rate,train_loss,train_accuracy,val_loss,val_accuracy"]
        lines += [f"{epoch},{','.join(map(str, np.random.rand(5)))}" for epoch in range(180)]
        (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    assert write_report(tmp_path / "outputs", tmp_path / "report.html").stat().st_size < 10e6


# --- in a real browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no chromium on PATH")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--enable-unsafe-swiftshader"]
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, runs: Path, tmp_path: Path) -> Iterator[Any]:
    """The report in a window as narrow as a phone; nothing may end up on the console, or ask the network."""
    file = write_report(runs, tmp_path / "report.html")
    page = browser.new_page(viewport={"width": 400, "height": 800})
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: problems.append(request.url) if request.url.startswith("http") else None)
    page.goto(file.as_uri())
    page.wait_for_selector("html[data-ready=true]")
    yield page
    assert problems == []
    page.close()


def names(page: Any) -> list[str]:
    return [text.partition(" ")[0] for text in page.locator("#table tbody td.name").all_inner_texts()]


def test_sorting_filtering_and_columns(page: Any) -> None:
    assert names(page) == ["resnet", "densenet", "resnet"]
    header = page.get_by_role("button", name="network", exact=True)
    header.focus()
    page.keyboard.press("Enter")  # by keyboard
    assert names(page) == ["densenet", "resnet", "resnet"]
    assert page.locator("th[aria-sort=ascending]").inner_text().startswith("network")
    header = page.get_by_role("button", name="test %", exact=True)
    header.click()
    assert names(page)[0] == "resnet"
    header.click()
    assert names(page) == ["resnet", "densenet", "resnet"]
    assert page.locator("#table tbody tr").first.inner_text().count("85.00") >= 1
    page.get_by_label("Filter rows").fill("dense")
    assert names(page) == ["densenet"]
    assert "1 of 3 rows" in page.locator("#table").inner_text()
    page.get_by_text("Columns").click()
    page.get_by_label("test %", exact=True).uncheck()
    assert page.get_by_role("button", name="test %", exact=True).count() == 0


def traces_of(page: Any, section: str) -> list[dict[str, Any]]:
    """What a plot shows; it is drawn once it is near the window."""
    page.locator(f"#{section} .plot").scroll_into_view_if_needed()
    page.wait_for_function(f"document.querySelector('#{section} .plot').data")
    found: list[dict[str, Any]] = page.evaluate(f"document.querySelector('#{section} .plot').data")
    return found


def test_rows_are_toggled_in_all_plots(page: Any) -> None:
    def lines(section: str) -> int:
        traces = traces_of(page, section)
        assert page.locator(f"#{section} .legend li").count() == sum(t.get("showlegend", True) for t in traces)
        return sum(trace.get("showlegend", True) for trace in traces)

    assert (lines("curves"), lines("cost")) == (3, 3)
    page.locator("#table tbody input").first.uncheck()
    assert (lines("curves"), lines("cost")) == (2, 2)
    (others,) = (trace for trace in traces_of(page, "cost") if "text" in trace)
    assert [text.partition(" ")[0] for text in others["text"]] == ["resnet"], "hovering names what is not ticked"
    page.get_by_role("button", name="Plot none of these").click()
    assert (lines("curves"), lines("cost")) == (0, 0)
    page.get_by_label("Filter rows").fill("dense")
    page.get_by_role("button", name="Plot all of these").click()
    assert (lines("curves"), lines("cost")) == (1, 1)
    page.locator("#curves select").last.select_option("train_loss")
    assert page.evaluate("document.querySelector('#curves .plot').layout.yaxis.title.text") == "training loss"


def test_nothing_overflows_on_a_phone_or_in_the_dark(page: Any) -> None:
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") == 400


def test_names_are_below_the_axes_on_a_phone(page: Any) -> None:
    for section in ("curves", "cost"):
        traces_of(page, section)
        axes = page.locator(f"#{section} .plot .nsewdrag").first.bounding_box()
        names = page.locator(f"#{section} .legend").bounding_box()
        assert axes["height"] > 150
        assert names["y"] > axes["y"] + axes["height"]


def test_colours_can_be_seen_in_the_dark(page: Any) -> None:
    """Each has a contrast of at least 3 to the page, as WCAG 2.2 asks of graphics."""

    def luminance(text: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", text)[:3]]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    page.emulate_media(color_scheme="dark")
    paper = luminance(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    shown = page.evaluate(
        "data.colours.map((_, i) => { const e = document.createElement('i'); e.style.color = colour(i);"
        " document.body.append(e); return getComputedStyle(e).color; })"
    )
    assert len(shown) == 10
    assert min((luminance(text) + 0.05) / (paper + 0.05) for text in shown) >= 3


@pytest.fixture
def open_report(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """`open_report(folder)`: the report of the runs there, in a window of 1000 × 800."""
    pages = []

    def open_it(folder: Path) -> Any:
        pages.append(browser.new_page(viewport={"width": 1000, "height": 800}))
        pages[0].on("pageerror", lambda error: pytest.fail(str(error)))
        pages[0].goto(write_report(folder, tmp_path / "report.html").as_uri())
        pages[0].wait_for_selector("html[data-ready=true]")
        return pages[0]

    yield open_it
    for page in pages:
        page.close()


def test_data_sets_are_plotted_one_at_a_time(open_report: Any, tmp_path: Path) -> None:
    for dataset in ("cifar10", "svhn"):
        for seed in (1, 2):
            for number, model in enumerate(("resnet", "densenet")):
                settings = factories.config(model, dataset, seed)
                outcome = factories.result(settings, train_seconds=1000 * (number + 1), params=10 ** (5 + 2 * number))
                factories.write_run(tmp_path / "runs" / f"{dataset}-{model}-{seed}", outcome)
    page = open_report(tmp_path / "runs")
    named = page.locator("#cost .legend li")
    traces_of(page, "cost")
    assert sorted(named.all_inner_texts()) == ["densenet, cifar10", "resnet, cifar10"]
    page.locator("#cost").get_by_label("Data set").select_option("svhn")
    assert sorted(named.all_inner_texts()) == ["densenet, svhn", "resnet, svhn"]
    page.locator("#cost").get_by_label("Data set").select_option("")
    assert named.count() == 4
    layout = "document.querySelector('#cost .plot').layout.xaxis"
    assert page.evaluate(f"[{layout}.type, {layout}.title.text]") == ["log", "parameters"]
    ticks = [text for text in page.locator("#cost .xtick text").all_text_contents() if text]
    assert {"100k", "1M", "10M"} <= set(ticks)
    assert len(set(ticks)) == len(ticks)
    page.locator("#cost select").last.select_option("train_seconds_mean")
    assert page.evaluate(f"[{layout}.type, {layout}.title.text]") == ["linear", "training time (min)"]


def test_two_hundred_rows_are_not_as_many_screens(open_report: Any, tmp_path: Path) -> None:
    factories.write_many(tmp_path / "runs", 200, seeds=1)
    page = open_report(tmp_path / "runs")
    assert page.evaluate("document.documentElement.scrollHeight") < 8 * 800
    assert len(names(page)) == 200
    page.get_by_role("button", name="Plot all of these").click()
    traces_of(page, "cost")
    assert page.locator("#cost .legend li").last.inner_text() == "and 170 more, named where they are pointed at"


def test_long_names_do_not_overflow_a_phone(open_report: Any, tmp_path: Path) -> None:
    labels = np.arange(100) % 10
    for lr in (0.0447314984304720, 0.1):
        settings = factories.config("resnet", lr=lr)
        settings["optimizer"] |= {"weight_decay": lr / 7, "momentum": 1 - lr / 3, "nesterov": lr > 0.05}
        folder = factories.write_completed(tmp_path / "runs", "resnet", 1, 0.9, lr, config=settings)
        factories.write_predictions(folder, labels < 9, labels)
    page = open_report(tmp_path / "runs")
    page.set_viewport_size({"width": 400, "height": 800})
    traces_of(page, "classes")
    # Plotly fits its plots to the narrower page a moment later.
    page.wait_for_function("document.documentElement.scrollWidth === 400", timeout=10_000)


def test_one_row(open_report: Any, tmp_path: Path) -> None:
    factories.write_completed(tmp_path / "runs", "resnet", 1, 0.9)
    page = open_report(tmp_path / "runs")
    assert page.locator("#summary").inner_text() == "1 row, 1 run, on cifar10"
    traces_of(page, "cost")
    ticks = page.locator("#cost .xtick text").all_text_contents()
    assert ticks
    assert max(map(len, ticks)) <= 5


def test_texts_of_files_are_texts(page: Any) -> None:
    page.locator("#runs summary").last.click()
    assert HOSTILE in page.locator("#runs code").last.inner_text()
    assert page.locator("img").count() == 0
    assert page.title() == "Comparison of networks"
