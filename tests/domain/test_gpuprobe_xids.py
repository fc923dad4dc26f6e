"""What an XID says of the hardware: gpuprobe alone, and the agent that drains a node, agree about each."""

import pytest
from gpuprobe import moved, xids
from node_agent.domain.xid import Xid, judge
from node_agent.domain.xid_table import OUT, TABLE, UNKNOWN, Kind


def expected(kind: Kind) -> str:
    if kind in OUT:
        return "fail"
    return "warn" if kind == "watch" else "pass"


def test_the_check_and_the_agent_agree_about_every_code_and_about_unknown_ones() -> None:
    # What a GPU says is to be done to mend it is read beside: here it says that nothing is.
    assert {code: xids.says(code) for code in TABLE} == {
        code: expected(judge(Xid(0, code, recovery=0), []).kind) for code in TABLE
    }
    known = xids.APPLICATION | xids.NOTES | xids.WATCHED | xids.HARDWARE
    assert known == TABLE.keys()
    assert xids.says(9_999) == expected(UNKNOWN.kind) == "warn"


@pytest.mark.parametrize("code", sorted(TABLE))
def test_a_codes_verdict_is_that_of_a_run_in_which_it_came(code: int) -> None:
    finding = moved.judge(moved.Moved({}, [code]), 14)
    assert finding.verdict == xids.says(code)
    assert finding.evidence["xids"] == [code]
    assert str(code) in finding.detail
