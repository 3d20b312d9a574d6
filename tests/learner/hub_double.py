"""A server on the loopback that speaks as much of the hub's protocol as a push needs. The hub itself is never asked."""

from __future__ import annotations

import base64
import hashlib
import json
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.http_double import HttpDouble


class HubDouble(HttpDouble):
    """Holds repositories; ``url`` is for ``HF_ENDPOINT``."""

    def __init__(self, token: str) -> None:
        super().__init__()
        self.token = token
        self.private: dict[str, bool] = {}
        """By repository, whether it is private."""
        self.files: dict[str, dict[str, bytes]] = {}
        """By repository, its files."""
        self.blobs: dict[str, bytes] = {}

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        path = request.path.partition("?")[0]
        if path.startswith("/blob/"):  # a signed address, which no token goes to
            self.blobs[hashlib.sha256(body).hexdigest()] = body
            self.say(request, 200, {})
        elif request.headers.get("Authorization") != f"Bearer {self.token}":
            self.say(request, 401, {"error": "Invalid token"})
        else:
            self.say(request, *self._answered(request.command, path, body))

    def _answered(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        words = path.strip("/").split("/")
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
            if name in self.private:
                return 409, {"error": "You already created this model repo", "url": f"{self.url}/{name}"}
            self.private[name], self.files[name] = (
                bool(asked.get("private") or asked.get("visibility") == "private"),
                {},
            )
            return 200, {"url": f"{self.url}/{name}"}
        if method == "GET" and path.endswith("/raw/main/.gitignore"):
            return 404, {"error": "Entry not found"}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if path.endswith("/info/lfs/objects/batch"):
            return 200, {"objects": [self._to_upload(each) for each in json.loads(body)["objects"]]}
        name = "/".join(words[2:4])
        if "preupload" in words:
            asked = json.loads(body)["files"]
            kind = {True: "lfs", False: "regular"}
            files = [
                {"path": each["path"], "uploadMode": kind[each["path"].endswith(".safetensors")], "shouldIgnore": False}
                for each in asked
            ]
            return 200, {"files": files}
        if "commit" in words:
            return 200, self._committed(name, body)
        if method == "GET":
            return 200, {"id": name, "private": self.private[name], "tags": [], "siblings": []}
        return 404, {"error": f"{method} {path}"}

    def _to_upload(self, blob: dict[str, Any]) -> dict[str, Any]:
        upload = {"href": f"{self.url}/blob/{blob['oid']}", "header": {}}
        return {"oid": blob["oid"], "size": blob["size"], "actions": {"upload": upload}}

    def _committed(self, name: str, body: bytes) -> dict[str, Any]:
        for line in body.splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                self.files[name][entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            elif entry["key"] == "lfsFile":
                self.files[name][entry["value"]["path"]] = self.blobs[entry["value"]["oid"]]
        return {"commitUrl": f"{self.url}/{name}/commit/abc", "commitOid": "abc", "success": True}
