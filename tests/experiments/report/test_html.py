"""The page, as a browser shows it and as text: complete, whole without a network, as wide as its window."""

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest

from recbole_ib.experiments.report.findings import compute_findings
from recbole_ib.experiments.report.style import styles
from recbole_ib.experiments.report.write import write_report
from tests.support.made_runs import NINE, Made, comparison_of, make_entry, plain_entry

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync", "--hide-scrollbars"]
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no chromium, chromium-browser or google-chrome on the PATH")
#: writes what the browser knows of the page into the page
PROBE = """<script>addEventListener("load", function () {
  var found = {
    broken: Array.from(document.images).filter(function (i) { return !i.complete || i.naturalWidth === 0; }).map(function (i) { return i.alt; }),
    images: document.images.length, width: innerWidth, scroll: document.documentElement.scrollWidth,
    requests: performance.getEntriesByType("resource").map(function (e) { return e.name.slice(0, 60); })
  };
  var column = Array.from(document.querySelectorAll("#results thead th"))[2];
  column.click();
  found.sorted = Array.from(document.querySelectorAll("#results tbody tr")).map(function (r) { return r.cells[2].firstElementChild && r.cells[2].textContent; });
  found.dom = document.querySelector("main").textContent;
  found.last = document.querySelector("#results tbody tr:last-child").className;
  parent.postMessage(JSON.stringify(found), "*");
});</script>"""  # noqa: E501


@pytest.fixture(scope="module")
def nine(tmp_path_factory):
    """A report of nine models and five seeds."""
    folder = tmp_path_factory.mktemp("nine")
    entries = [make_entry(folder / "runs", made, range(2020, 2025), 942) for made in NINE]
    comparison = comparison_of(entries, "BPR", command="recbole-ib compare --dataset=ml-100k")
    return compute_findings(comparison), write_report(comparison, folder / "out")


def browse(page, profile, *words):
    done = subprocess.run(
        [BROWSER, *FLAGS, f"--user-data-dir={profile}", *words, page.as_uri()], capture_output=True, timeout=120
    )
    return done.stdout.decode()


class Parts(HTMLParser):
    """Addresses, texts outside of style and script, and whether every tag is closed."""

    VOID = frozenset({"meta", "link", "img", "br"})

    def __init__(self):
        super().__init__()
        self.open, self.addresses, self.texts, self.images = [], [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]
        if tag == "img":
            self.images.append(dict(attrs))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.texts.append(data)


def parts_of(page):
    parts = Parts()
    parts.feed(page.read_text(encoding="utf-8"))
    assert parts.open == []
    return parts


def numbers_of(findings):
    """Every number that the page must show."""
    results, metric = findings.results, findings.results.comparison.metric
    shown = {f"{cell.mean:.4f}" for cells in findings.table.cells.values() for cell in cells.values()}
    shown |= {f"± {cell.sd:.4f}" for cells in findings.table.cells.values() for cell in cells.values()}
    tests = findings.tests[findings.tests["metric"] == metric]
    assert len(tests) == len(results.names) * (len(results.names) - 1) / 2
    shown |= {f"{abs(value):.4f}" for value in tests["mean_difference"]}
    slices = findings.slices[(findings.slices["of"] == "items") | (findings.slices["metric"] == metric)]
    return shown | {f"{value:.4f}" for value in slices["mean"] if not np.isnan(value)}


def test_the_page_shows_every_entry_and_number_and_asks_for_nothing(nine):
    findings, page = nine
    parts = parts_of(page)
    text = " ".join(parts.texts)
    for name in findings.results.names:
        assert name in parts.texts
    for number in numbers_of(findings):
        assert number in text, number
    for sentence in findings.headline:
        assert sentence.split("Cohen")[0].replace("'", "'") in text
    assert all(address.startswith(("#", "data:")) for address in parts.addresses)
    source = re.sub(r'(?:src|href)="data:[^"]*"', "", page.read_text())
    assert not re.search(r"https?://|@import|url\(", source)
    assert source.count("<script>") == 1
    assert all(len(image["alt"]) > 20 for image in parts.images)
    assert len(parts.images) == 5
    anchors = {address[1:] for address in parts.addresses if address.startswith("#")}
    assert all(f'id="{anchor}"' in source for anchor in anchors)
    assert len(anchors) >= 5


def test_provenance_and_settings_are_on_the_page(nine):
    text = " ".join(parts_of(nine[1]).texts)
    for word in (
        "recbole-ib compare --dataset=ml-100k",
        "torch 2.13.0",
        "CLIP ViT-B/32, poster",
        "all-MiniLM-L6-v2",
        "tuned, 12 trials",
    ):
        assert word in text
    assert "fib_weight=1.4, sigma2=0.15" in text
    first = nine[0].results.all_runs[0].manifest
    assert first["data"]["test"]["digest"][:16] in text
    assert "same for all" in text


def test_sizes(nine):
    folder = nine[1].parent
    assert nine[1].stat().st_size < 1_000_000
    assert sum(path.stat().st_size for path in folder.iterdir()) < 2_000_000


def test_an_entry_has_one_color_on_the_page(nine):
    findings, page = nine
    source = page.read_text()
    for name, style in styles(findings.results.names).items():
        colors = set(re.findall(rf'style="background:([^";]+)"></span>{name}\b', source))
        assert colors == {style.color}


@needs_browser
@pytest.mark.parametrize("width", [1200, 400])
def test_a_browser_shows_it_whole(nine, tmp_path, width):
    from PIL import Image

    findings, page = nine
    copy, shot = tmp_path / "probe.html", tmp_path / "shot.png"
    copy.write_text(page.read_text().replace("</body>", f"{PROBE}</body>"))
    # in a frame the page is as wide as asked, however wide the smallest window is
    frame = tmp_path / "frame.html"
    frame.write_text(
        f'<iframe src="probe.html" width="{width}" height="900" style="border: 0"></iframe><script>addEventListener("message", e => '
        "{ document.body.dataset.found = e.data; });</script>"
    )
    dom = browse(frame, tmp_path / "one", "--window-size=1400,1000", "--virtual-time-budget=8000", "--dump-dom")
    found = json.loads(html.unescape(re.search(r'<body data-found="([^"]*)"', dom)[1]))
    dom = found["dom"]
    assert found["width"] == width
    assert found["broken"] == []
    assert found["images"] == 5
    # headless windows cannot be narrower than some 500 pixels in --dump-dom, see the screenshot for 400
    assert found["scroll"] <= found["width"]
    assert [request for request in found["requests"] if not request.startswith("data:")] == []
    for name in findings.results.names:
        assert name in dom
    for number in numbers_of(findings):
        assert number in dom
    values = [float(value[:6]) for value in found["sorted"] if value]
    assert values == sorted(values, reverse=True)
    assert len(values) == len(findings.results.names)
    assert found["last"] == "sum"

    browse(page, tmp_path / "two", f"--window-size={width},2400", f"--screenshot={shot}")
    image = Image.open(shot).convert("RGB")
    assert image.size == (width, 2400)
    assert len(image.getcolors(1 << 24)) > 100
    rows = np.asarray(image.convert("L"))
    assert (rows < 128).any(axis=1).mean() > 0.2


def small(folder, makes, **more):
    comparison = comparison_of([make_entry(folder / "runs", made, [0, 1], 40) for made in makes], **more)
    return comparison, write_report(comparison, folder / "out")


@pytest.mark.usefixtures("small_pictures")
def test_unequal_terms_limits_and_failures_are_boxes_on_the_first_screen(tmp_path):
    makes = [Made("A", epochs=8, config={"epochs": 8}), Made("B", 0.2, epochs=8, config={"epochs": 8}, trials=50)]
    _, page = small(tmp_path, makes, failures=["B, seed 3: RuntimeError: out of memory"])
    head = page.read_text().split('<section id="results">')[0]
    assert "Not on equal terms" in head
    assert "12: A; 50: B" in head
    assert "Not trained to the end" in head
    assert "A, B (every seed): stopped by its epoch limit of 8: could still rise." in head
    assert '<a href="#failures">' in head
    assert "<strong>On equal terms" not in head
    assert "B, seed 3: RuntimeError: out of memory" in " ".join(parts_of(page).texts)


@pytest.mark.usefixtures("small_pictures")
def test_names_and_texts_are_escaped(tmp_path):
    nasty = "<img src=x onerror=alert(1)>&\"'$x$"
    makes = [Made("A", note="<b>tuned</b>"), Made("B", 0.2, given={"template": nasty})]
    _, page = small(tmp_path, makes, command=f"recbole-ib compare '{nasty}'", failures=[nasty])
    parts = parts_of(page)
    assert "<b>tuned</b>" in parts.texts
    assert nasty in parts.texts
    assert all(image.get("src", "").startswith("data:") for image in parts.images)


@pytest.mark.usefixtures("small_pictures")
def test_one_model_and_one_seed_is_a_page_too(tmp_path):
    page = write_report(comparison_of([plain_entry(tmp_path, "Only", {0: [0.2, 0.4, 0.4]})]), tmp_path / "out")
    text = " ".join(parts_of(page).texts)
    assert "with one model there is nothing to compare" in text
    assert "n = 1" in text
    assert "baseline" not in text
    assert not re.search(r"\bnan\b", text.lower())


@pytest.mark.usefixtures("small_pictures")
def test_what_is_undefined_is_a_dash(tmp_path):
    entries = [plain_entry(tmp_path, name, {0: [0.2, 0.4, 0.4]}) for name in "AB"]
    text = " ".join(parts_of(write_report(comparison_of(entries), tmp_path / "out")).texts)
    assert "every user has the same value under both" in text
    assert not re.search(r"\bnan\b", text.lower())


@pytest.mark.usefixtures("small_pictures")
def test_groups_head_the_rows_of_the_table(tmp_path):
    makes = [Made("whole", 0.2), Made("no FIB"), Made("no GIB", 0.1)]
    _, page = small(tmp_path, makes, groups={"without a part": ["no GIB", "no FIB"]})
    table = page.read_text().split('<section id="results">')[1].split("</table>")[0]
    order = re.findall(r'colspan="8">([^<]+)<|</span>([^<]+?) ?<', table)
    assert [a or b for a, b in order] == ["whole", "without a part", "no GIB", "no FIB"]
