"""The gateway's own bounds, shortened for a test, wherever it reads them."""

import sys

import pytest


def shorten(monkeypatch: pytest.MonkeyPatch, **bounds: float) -> None:
    """Set bounds of the gateway's settings in every module of it that has taken them over."""
    for name, value in bounds.items():
        found = [
            module
            for known, module in list(sys.modules.items())
            if known.startswith("inference_gateway.") and name in vars(module)
        ]
        assert found, f"the gateway has no bound {name}"
        for module in found:
            monkeypatch.setattr(module, name, value)
