"""``mesh bench agent`` at a small size: every figure is there, and each error became a fact and a cordon."""

import json

import pytest
from mesh_tools.bench import agent

pytestmark = [pytest.mark.slow, pytest.mark.long]


def test_each_error_is_told_and_decided(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent, "IDLE_S", 1.0)
    assert agent.main(["--errors", "3"], as_json=True) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(figures) >= set(agent.BOUNDS)
    assert figures["errors"] == 3
    assert 0 < figures["fact_p50_ms"] <= figures["cordon_p50_ms"]
    assert 5 < figures["stuck_noticed_s"] < agent.WITHIN_S


@pytest.mark.parametrize("errors", ["1", "129"])
def test_more_errors_than_there_are_are_refused(errors: str) -> None:
    with pytest.raises(SystemExit) as refused:
        agent.main(["--errors", errors], as_json=False)
    assert refused.value.code == 2
