"""``python -m node_agent.doubles.vllm serve MODEL …``: a double of vLLM's server, for where there is no GPU.

It knows the words that the agent uses, takes ``--load-s`` seconds to load, wants the key of ``VLLM_API_KEY`` under ``/v1``,
and answers each chat with its own command line: nothing of it is a model's.
"""

import argparse
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Answering(BaseHTTPRequestHandler):
    """One request; the server has the options and the moment it is loaded."""

    server: "Double"
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer ``/health`` and ``/metrics``."""
        loaded = time.monotonic() >= self.server.loaded_at
        if self.path == "/metrics":
            self._answer(200, b'vllm:num_requests_running{engine="0"} 0.0\n', "text/plain")
        else:
            self._answer(200 if loaded else 503, b"")

    def do_POST(self) -> None:
        """Answer a chat with what the server was started with."""
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.headers.get("authorization") != f"Bearer {os.environ['VLLM_API_KEY']}":
            self._answer(401, b'{"error": {"message": "Unauthorized"}}')
            return
        words = " ".join(sys.argv[1:])
        told = {
            "id": "chatcmpl-double",
            "object": "chat.completion",
            "created": 0,
            "model": json.loads(body)["model"],
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": words},
                    "finish_reason": "stop",
                }
            ],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        }
        self._answer(200, json.dumps(told).encode())

    def _answer(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Double(ThreadingHTTPServer):
    """The server, and when it is loaded."""

    daemon_threads = True
    loaded_at = 0.0


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(prog="python -m node_agent.doubles.vllm")
    parser.add_argument("serve", choices=["serve"])
    parser.add_argument("model")
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--served-model-name", required=True)
    parser.add_argument("--tensor-parallel-size", type=int, required=True)
    parser.add_argument("--task")
    parser.add_argument("--enable-lora", action="store_true")
    parser.add_argument("--lora-modules", nargs="*", default=[])
    parser.add_argument("--load-s", type=float, default=0.0)
    parser.add_argument("--fails", action="store_true", help="end at once, as without memory")
    options = parser.parse_args()
    if options.fails:
        sys.exit("torch.OutOfMemoryError: CUDA out of memory")
    server = Double((options.host, options.port), Answering)
    server.loaded_at = time.monotonic() + options.load_s
    server.serve_forever()


if __name__ == "__main__":
    main()
