"""A hub that answers and then stops, or sends slowly: a server of this test, the real client."""

import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from fork_server import python

from seqpe_lab import hub
from seqpe_lab.tasks.tokenization import load_tokenizer

ASK = """
import json, os, sys, time
os.environ |= {"HF_ENDPOINT": sys.argv[1], "HF_HOME": sys.argv[2], "SEQPE_CACHE": sys.argv[2]}
os.environ["TQDM_POSITION"] = "-1"  # show bars although this is no terminal
os.environ.pop("HF_HUB_OFFLINE", None)
from seqpe_lab import hub
from seqpe_lab.models.published_checkpoints import find
from seqpe_lab.tasks.image_data import load_images
from seqpe_lab.tasks.text_data import load_documents
from seqpe_lab.tasks.tokenization import load_tokenizer
hub.PATIENCE = 0.4
kinds = {
    "text": lambda: load_documents("hub:someone/text"),
    "images": lambda: load_images("hub:someone/images"),
    "tokenizer": lambda: load_tokenizer("gpt2", {}).get_vocab_size(),
    "checkpoint": lambda: find("hub:someone/checkpoint"),
}
for kind in sys.argv[3:]:
    began = time.monotonic()
    try:
        answer = kinds[kind]()
    except Exception as error:
        answer = f"{type(error).__name__}: {error}"
    print(json.dumps([kind, time.monotonic() - began, answer]))
"""


class Hub(BaseHTTPRequestHandler):
    """Answers the question whether it is there, and gives one file: the first time half of it."""

    protocol_version = "HTTP/1.1"
    content = b""
    given: list[int] = []
    stops: list[str] = []
    over = threading.Event()

    def log_message(self, *arguments):
        pass

    def do_HEAD(self):
        if self.path == "/":
            self.begin(0)
        elif self.path.endswith("tokenizer.json"):
            self.begin(len(self.content))
        else:
            self.stop()

    def do_GET(self):
        if "agent" in self.path:  # a statistic that the client asks for, with a limit of 3 s
            self.begin(0)
            return
        if not self.path.endswith("tokenizer.json"):
            self.stop()
            return
        self.begin(len(self.content))
        self.given.append(0)
        piece = len(self.content) // 12
        for begin in range(0, len(self.content), piece):
            if begin > len(self.content) // 2 and len(self.given) == 1:
                self.stop()
                return
            self.wfile.write(self.content[begin : begin + piece])
            self.wfile.flush()
            time.sleep(0.1)

    def stop(self):
        self.stops.append(self.path)
        self.over.wait(60)

    def begin(self, length: int):
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.send_header("ETag", '"e1"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.end_headers()


def test_a_hub_that_stops_is_given_up_and_a_slow_one_is_waited_for_with_a_bar(tmp_path):
    Hub.content = load_tokenizer("bpe:300", {"a": "one two three " * 50}).to_str().encode()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    kinds = ("text", "images", "checkpoint", "tokenizer", "tokenizer")
    try:
        done = python(ASK, f"http://127.0.0.1:{server.server_port}", str(tmp_path), *kinds)
    finally:
        Hub.over.set()
        server.shutdown()
        server.server_close()
    assert done.returncode == 0, done.stderr
    *stopped, (_, seconds, vocabulary) = map(json.loads, done.stdout.splitlines())
    assert vocabulary > 256 and seconds > 1.0  # longer than the pause that is allowed
    assert "tokenizer.json" in done.stderr and "100%" in done.stderr
    for kind, seconds, message in stopped:
        assert seconds < 30, kind  # much of it for imports, where the machine is busy
        assert re.match(r"ConnectionError: the hub did not give .*Three ways out: \(1\)", message)
        assert "nothing came for 0.4 s" in message and "(2)" in message and "(3)" in message, kind
    assert len(stopped) == 4 and len(Hub.stops) == 4  # none is tried again
    assert 3 + hub.PATIENCE < 10
