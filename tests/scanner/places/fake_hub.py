"""A hub on this machine: the few answers of the Hugging Face Hub that its client asks for when it fetches a file."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Repository:
    """Files by name, and what is wrong with it: an error code of the hub's, or bytes that are sent in place of a file's own."""

    files: dict[str, bytes]
    revisions: tuple[str, ...] = ("main", "v1", "refs/pr/1", COMMIT)
    error: tuple[int, str] | None = None
    sent: dict[str, bytes] = field(default_factory=dict)


@dataclass
class Hub:
    """Repositories by owner/name; `asked` has every path that was asked for, with its method."""

    repositories: dict[str, Repository]
    address: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)

    @property
    def fetched(self) -> set[str]:
        """The files of which bytes were sent."""
        return {path.partition(f"/resolve/{COMMIT}/")[2] for method, path in self.asked if method == "GET" and "/resolve/" in path}


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """The hub at an address of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer()

        def do_HEAD(self) -> None:
            self.answer()

        def log_message(self, *_: object) -> None:
            pass

        def answer(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.asked.append((self.command, path))
            status, headers, body = _answer(hub, path)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _answer(hub: Hub, path: str) -> tuple[int, dict[str, str], bytes]:
    inside = path.removeprefix("/api/models/").removeprefix("/")
    repository = hub.repositories.get("/".join(inside.split("/")[:2]))
    if repository is None:
        return 404, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}, b""
    if repository.error is not None:
        status, code = repository.error
        return status, {"X-Error-Code": code} if code else {}, b""
    rest = "/".join(inside.split("/")[2:])
    if path.startswith("/api/models/"):
        revision = rest.removeprefix("revision/") or "main"
        if revision not in repository.revisions:
            return 404, {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"}, b""
        siblings = [{"rfilename": name, "size": len(data), "lfs": _lfs(data)} for name, data in repository.files.items()]
        document = {"id": "o/n", "sha": COMMIT, "private": False, "tags": [], "downloads": 0, "siblings": siblings}
        return 200, {"Content-Type": "application/json"}, json.dumps(document).encode()
    name = rest.removeprefix(f"resolve/{COMMIT}/")
    if name not in repository.files:
        return 404, {"X-Error-Code": "EntryNotFound"}, b""
    data = repository.sent.get(name, repository.files[name])
    return 200, {"ETag": f'"{hashlib.sha256(repository.files[name]).hexdigest()}"', "X-Repo-Commit": COMMIT}, data


def _lfs(data: bytes) -> dict[str, object]:
    return {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
