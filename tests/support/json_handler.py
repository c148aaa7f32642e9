"""A quiet HTTP handler for stand-in servers that answer with JSON."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler
from typing import Any


class JsonHandler(BaseHTTPRequestHandler):
    """Handles requests without a log."""

    def log_message(self, *arguments: Any) -> None:
        return

    def answer(self, body: dict[str, Any], status: int = 200) -> None:
        """Send this body."""
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
