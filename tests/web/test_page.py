"""The exported page in a browser gives the probabilities of Tagger."""

import threading

import numpy as np
import pytest
from helpers.taggers import CLASSES, save_tagger
from PIL import Image

from wsd_distill import Tagger
from wsd_distill.data.image import ORIENTATION, resize_to_square
from wsd_distill.web import make_server, write_site

RESIZE = """async ([pixels, width, height, size]) => {
  const { resizeToSquare } = await import("/pixels.js");
  return [...resizeToSquare(new Uint8Array(pixels), width, height, size)];
}"""
PROBABILITIES = """async (photos) => {
  const { Tagger } = await import("/tagger.js");
  const tagger = await Tagger.load();
  const found = [];
  for (const pixels of photos) found.push(await tagger.probabilities(new Uint8Array(pixels)));
  return found;
}"""


class Boxes:
    """A teacher with one box of each class, in the middle of a photo of 100 x 80 pixels."""

    def __call__(self, image):
        assert isinstance(image, bytes)
        return {name: [{"box": [25, 20, 75, 60], "score": 0.5}] for name in CLASSES}


def write_photos(folder):
    """Write files of all kinds that the page reads; return their paths."""
    rng = np.random.default_rng(0)
    paths = []

    def save(name, size, mode="RGB", orientation=1, **options):
        small = rng.integers(0, 256, (max(2, size[1] // 12), max(2, size[0] // 12), 4), np.uint8)
        image = Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).convert(mode)
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        paths.append(folder / name)
        image.save(paths[-1], exif=exif, **options)

    for orientation in range(1, 9):
        save(f"exif{orientation}.jpg", (301 + 2 * orientation, 207 + orientation), orientation=orientation, quality=90)
    save("small.jpg", (31, 47), quality=90)
    save("large.jpg", (1283, 961), quality=80)
    save("grey.jpg", (240, 160), "L", quality=90)
    save("progressive.jpg", (500, 375), progressive=True, quality=90)
    save("full_chroma.jpg", (320, 240), subsampling=0, quality=95)
    save("long.jpg", (900, 70), quality=90)
    save("plain.png", (200, 150))
    save("grey.png", (80, 90), "L")
    save("alpha.png", (150, 120), "RGBA")
    save("palette.png", (130, 110), "P")
    save("photo.webp", (140, 100), lossless=True)
    return paths


@pytest.fixture(scope="module")
def tagger(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tagger") / "pets" / "model"
    save_tagger(folder, thresholds=[0.3, 0.4, 0.5, 0.5, 0.6, 0.7], calibration=(0.9, 0.2))
    loaded = Tagger.load(folder)
    loaded.folder = folder
    return loaded


@pytest.fixture
def open_page(tagger, runtime, browser, tmp_path):
    """A function: teacher or None -> page that fails the test on any error or request to another host."""
    opened = []

    def start(find_boxes=None):
        write_site(tagger.folder, tmp_path / "site", runtime=runtime, with_boxes=find_boxes is not None)
        server = make_server(tmp_path / "site", port=0, find_boxes=find_boxes)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}/"
        page, problems = browser.new_page(), []
        opened.append((server, page, problems))
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda sent: sent.url.startswith((address, "blob:", "data:")) or problems.append(sent.url))
        page.goto(address)
        page.wait_for_selector("#files:enabled")
        return page

    yield start
    for server, page, problems in opened:
        page.close()
        server.shutdown()
        server.server_close()
        assert problems == []


def add_photos(page, paths):
    page.set_input_files("#files", [str(path) for path in paths])
    page.wait_for_function(f"document.querySelectorAll('.card').length === {len(paths)}")
    page.wait_for_selector("#photos[aria-busy=false]")


def shown_probabilities(page):
    """Probabilities (N, K) that the page shows for all classes."""
    rows = page.eval_on_selector_all(
        ".card",
        """cards => cards.map(card => Object.fromEntries([...card.querySelectorAll("details li")].map(
        row => [row.children[0].textContent, Number(row.children[1].dataset.value)])))""",
    )
    return np.array([[row[name] for name in CLASSES] for row in rows])


SHAPES = [(47, 31), (64, 64), (65, 63), (207, 301), (70, 900), (1, 3), (480, 640)]


def test_resize_is_equal_to_python(open_page):
    page = open_page()
    for shape in SHAPES:
        pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
        for size in (64, 17):
            found = page.evaluate(RESIZE, [pixels.flatten().tolist(), shape[1], shape[0], size])
            expected = resize_to_square(pixels, size)
            assert np.abs(np.reshape(found, (size, size, 3)) - expected.astype(int)).max() == 0, (shape, size)


def test_same_pixels_give_the_same_probabilities(open_page, tagger):
    pixels = np.random.default_rng(1).integers(0, 256, (8, 64, 64, 3), np.uint8)
    expected = tagger.probabilities(pixels)
    found = open_page().evaluate(PROBABILITIES, pixels.reshape(8, -1).tolist())
    assert np.abs(found - expected).max() < 1e-3


def test_same_files_give_the_same_probabilities(open_page, tagger, tmp_path):
    paths = write_photos(tmp_path)
    page = open_page()
    add_photos(page, paths)
    found = shown_probabilities(page)
    expected = tagger.probabilities(np.stack([tagger.read(path) for path in paths]))
    assert expected.std(axis=0).max() > 0.05
    differences = {path.name: difference for path, difference in zip(paths, np.abs(found - expected).max(axis=1))}
    assert {name: x for name, x in differences.items() if x >= (1e-2 if name.endswith(".jpg") else 1e-3)} == {}


def chosen_labels(page, card=0):
    return page.locator(".card").nth(card).locator(".result > .labels li span:first-child").all_text_contents()


def test_thresholds(open_page, tagger, tmp_path):
    Image.fromarray(np.random.default_rng(2).integers(0, 256, (80, 100, 3), np.uint8)).save(tmp_path / "a.png")
    page = open_page()
    add_photos(page, [tmp_path / "a.png"])
    (labels,) = tagger([tmp_path / "a.png"])
    assert chosen_labels(page) == list(labels)
    assert page.text_content("#threshold-value") == "tuned for each class"
    (probabilities,) = tagger.probabilities(tagger.read(tmp_path / "a.png")[None])
    page.fill("#threshold", "20")
    assert page.text_content("#threshold-value") == "20 %"
    assert chosen_labels(page) == [CLASSES[k] for k in np.argsort(-probabilities) if probabilities[k] >= 0.2]
    page.fill("#threshold", "100")
    assert chosen_labels(page) == [] and "No label reaches its threshold" in page.text_content(".message")
    page.click("#tuned")
    assert chosen_labels(page) == list(labels)
    page.click("#clear")
    assert page.locator(".card").count() == 0


def test_dropped_and_pasted_photos_and_an_error_at_its_photo(open_page, tmp_path):
    Image.new("RGB", (90, 70), (200, 40, 40)).save(tmp_path / "red.png")
    page = open_page()
    page.evaluate(
        """async (data) => {
          const photos = new DataTransfer();
          photos.items.add(new File([new Uint8Array(data)], "red.png", { type: "image/png" }));
          photos.items.add(new File(["text"], "broken.jpg", { type: "image/jpeg" }));
          document.dispatchEvent(new DragEvent("drop", { dataTransfer: photos, cancelable: true }));
          document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: photos }));
        }""",
        list((tmp_path / "red.png").read_bytes()),
    )
    page.wait_for_selector("#photos[aria-busy=false]")
    assert page.locator(".card h2").all_text_contents() == ["red.png", "broken.jpg"] * 2
    expected = ["broken.jpg: it cannot be read as an image: use JPEG, PNG or WebP"] * 2
    assert page.locator(".message.error").all_text_contents() == expected
    assert page.locator(".card").nth(2).locator("details li").count() == len(CLASSES)


def test_boxes_of_a_teacher(open_page, tmp_path):
    Image.new("RGB", (100, 80), (200, 40, 40)).save(tmp_path / "red.png")
    page = open_page(Boxes())
    assert page.is_visible("#sent") and not page.is_visible("#local")
    add_photos(page, [tmp_path / "red.png"])
    page.fill("#threshold", "0")
    assert page.get_attribute("svg", "viewBox") == "0 0 100 80"
    rectangles = page.locator("svg rect")
    assert rectangles.count() == len(CLASSES)
    photo, box = page.locator(".photo img").bounding_box(), rectangles.first.bounding_box()
    assert box["x"] - photo["x"] == pytest.approx(photo["width"] / 4, abs=3)
    assert box["height"] == pytest.approx(photo["height"] / 2, abs=6)  # with its line


def test_without_a_teacher_photos_stay(open_page):
    page = open_page()
    assert page.is_visible("#local") and not page.is_visible("#sent")
