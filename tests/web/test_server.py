import http.client
import json
import threading

import pytest
from helpers.fake_tagger import png

from wsd_distill.web import make_server
from wsd_distill.web.server import MAX_MEGABYTES

BOXES = {"cat": [{"box": [1.0, 2.0, 3.0, 4.0], "score": 0.5}]}


@pytest.fixture
def request_of(tmp_path):
    """A function: teacher -> function that sends a request and returns status, content type and body."""
    servers = []

    def start(find_boxes=None):
        (tmp_path / "index.html").write_text("page")
        server = make_server(tmp_path, port=0, find_boxes=find_boxes)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def send(method, path, body=None, **headers):
            connection = http.client.HTTPConnection(*server.server_address, timeout=10)
            connection.request(method, path, body, {key.replace("_", "-"): text for key, text in headers.items()})
            answer = connection.getresponse()
            return answer.status, answer.headers["Content-Type"], answer.read()

        return send

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_files_and_boxes(request_of):
    photos = []
    send = request_of(lambda image: photos.append(image) or BOXES)
    assert send("GET", "/") == (200, "text/html", b"page")
    status, kind, body = send("POST", "/boxes", png(1, 2, 3), Content_Type="image/png")
    assert (status, kind, json.loads(body)) == (200, "application/json", BOXES)
    assert photos == [png(1, 2, 3)]


@pytest.mark.parametrize(
    "path, body, headers, status, text",
    [
        ("/other", b"x", {"Content_Type": "image/png"}, 404, "there is no /other here: start wsd serve with --teacher"),
        ("/boxes", b"x", {"Content_Type": "text/plain"}, 415, "the type is 'text/plain': send an image"),
        ("/boxes", b"x", {"Content_Type": "image/png"}, 422, "the photo cannot be read as an image"),
        (
            "/boxes",
            b"",
            {"Content_Type": "image/png", "Content_Length": "99000000"},
            413,
            f"the photo has 99 MB, more than the limit of {MAX_MEGABYTES}: send a smaller one",
        ),
        (
            "/boxes",
            b"",
            {"Content_Type": "image/png", "Content_Length": "-1"},
            411,
            "the length of the photo is missing: send Content-Length",
        ),
    ],
)
def test_wrong_requests(request_of, path, body, headers, status, text):
    found = request_of(lambda image: BOXES)("POST", path, body, **headers)
    assert found == (status, "application/json", json.dumps({"error": text}).encode())


def test_a_failing_teacher_and_none(request_of, capfd):
    def fail(image):
        raise RuntimeError("secret path")

    status, _, body = request_of(fail)("POST", "/boxes", png(1, 2, 3), Content_Type="image/png")
    assert (status, json.loads(body)) == (500, {"error": "the teacher failed (RuntimeError)"})
    assert "RuntimeError: secret path" in capfd.readouterr().err
    assert request_of(None)("POST", "/boxes", png(1, 2, 3), Content_Type="image/png")[0] == 404


def test_a_port_in_use(tmp_path):
    with make_server(tmp_path, port=0) as server:
        port = server.server_address[1]
        with pytest.raises(OSError, match=rf"^127.0.0.1:{port} cannot be opened \(.* in use\): give another --port"):
            make_server(tmp_path, port=port)
