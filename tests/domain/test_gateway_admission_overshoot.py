"""Several gateways, one hard budget, and a ledger that lags: never more is spent than the budget."""

from typing import Any

import pytest
from hypothesis import assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from inference_gateway.domain.admission import Admission, Held
from mesh_contracts.inference import UsageRow
from mesh_contracts.metering import Lease, Leases, LeaseWish, Price
from meshkit.testing import NOW, test_id
from metering.domain.rate import rate

from tests.domain.admissions import DAY_END, DAY_START, asked, budget, leases, money

pytestmark = pytest.mark.slow

PRICE = Price(
    price_id="price_1",
    model="*",
    price_microeur_per_mtoken_in=370_000,
    price_microeur_per_mtoken_out=1_410_000,
    valid_from=DAY_START,
)
GATEWAYS = 3


class Row:
    """What a request took, on its way to the ledger."""

    def __init__(self, epoch: tuple[int, int], prompt: int | None, answer: int | None) -> None:
        self.epoch = epoch
        self.prompt = prompt
        self.answer = answer


class Metering:
    """A small model of the other side: what it granted to whom, and what stands in the ledger."""

    def __init__(self, amount: int) -> None:
        self.amount = amount
        self.spent = 0
        self.granted: dict[tuple[int, int], int] = {}
        self.returned: dict[tuple[int, int], int] = {}
        self.settled: dict[tuple[int, int], int] = {}
        self.owed: dict[Any, int] = {}
        self.over: set[tuple[int, int]] = set()

    def held(self) -> int:
        return sum(
            max(granted - self.returned.get(epoch, 0) - self.settled.get(epoch, 0), 0)
            for epoch, granted in self.granted.items()
            if epoch not in self.over
        )

    def renew(self, epoch: tuple[int, int], wish: LeaseWish, part: int, settled_below: int) -> Lease:
        self.over |= {(n, e) for n, e in self.granted if n == epoch[0] and e < settled_below}
        if wish.period_start is not None:
            self.returned[epoch] = max(self.returned.get(epoch, 0), wish.returned_microeur)
        free = max(self.amount - self.spent - self.held(), 0)
        self.granted[epoch] = self.granted.get(epoch, 0) + min(wish.wanted_microeur, free) // part
        left = max(self.amount - self.spent - self.held(), 0)
        assert self.spent + self.held() <= self.amount
        return money(granted=self.granted[epoch], left_microeur=left, period_end=DAY_END)

    def rate(self, row: Row) -> None:
        usage = UsageRow(
            request_id=test_id("request"),
            organization="organization_1",
            project="project_1",
            key_id="key_1",
            endpoint_id="endpoint_1",
            model="chat",
            route="/v1/chat/completions",
            streamed=False,
            started_at=NOW,
            ended_at=NOW,
            state="completed",
            status=200,
            tokens_from="engine",
            prompt_tokens=row.prompt,
            completion_tokens=row.answer,
        )
        rated = rate([usage], [PRICE], self.owed)
        self.owed |= rated.remainders
        cost = int(rated.lines[0].cost_microeur)
        self.spent += cost
        self.settled[row.epoch] = self.settled.get(row.epoch, 0) + cost


class Gateway:
    """One gateway's admission, its epoch, and what it has in progress."""

    def __init__(self, number: int, epoch: int, amount: int) -> None:
        self.epoch = (number, epoch)
        self.admission = Admission()
        self.admission.heed("project_1", budget(amount=amount))
        self.progress: list[Held] = []


class Overshoot(RuleBasedStateMachine):
    """Requests, answers late and lost, kills, and rows in any order."""

    @initialize(amount=st.integers(200, 9_000))
    def open(self, amount: int) -> None:
        self.now = 100.0
        self.amount = amount
        self.metering = Metering(amount)
        self.gateways = [Gateway(number, 1, amount) for number in range(GATEWAYS)]
        self.rows: list[Row] = []

    @rule(which=st.integers(0, 2), prompt=st.integers(0, 300), answer=st.integers(0, 300))
    def ask(self, which: int, prompt: int, answer: int) -> None:
        gateway = self.gateways[which]
        got = asked(gateway.admission, prompt, answer, now=self.now)
        if not isinstance(got, Held) and got.should_retry is None:
            # It asks at once and the client comes back; money may need a second look.
            for _ in range(2):
                self.renew(which, 1, "heard")
            got = asked(gateway.admission, prompt, answer, now=self.now)
        if isinstance(got, Held):
            gateway.progress.append(got)

    @rule(which=st.integers(0, 2), count=st.integers(5, 40), prompt=st.integers(1, 99))
    def burst(self, which: int, count: int, prompt: int) -> None:
        gateway = self.gateways[which]
        for _ in range(count):
            self.ask(which, prompt, prompt)
            if gateway.progress:
                one = gateway.progress.pop()
                took = one.estimate.prompt_tokens, one.estimate.answer_tokens
                one.settle(*took, self.now)
                self.rows.append(Row(gateway.epoch, *took))

    @rule(which=st.integers(0, 2))
    def rest(self, which: int) -> None:
        """Be idle for so long that money is given back."""
        self.now += 10
        self.renew(which, 1, "heard")
        self.now += 10
        self.renew(which, 1, "heard")

    @rule(
        which=st.integers(0, 2),
        pick=st.integers(0, 99),
        prompt=st.floats(0, 1) | st.none(),
        answer=st.floats(0, 1) | st.none(),
    )
    def end(self, which: int, pick: int, prompt: float | None, answer: float | None) -> None:
        gateway = self.gateways[which]
        assume(gateway.progress)
        one = gateway.progress.pop(pick % len(gateway.progress))
        took = [
            None if part is None else round(part * most)
            for part, most in (
                (prompt, one.estimate.prompt_tokens),
                (answer, one.estimate.answer_tokens),
            )
        ]
        one.settle(*took, self.now)
        self.rows.append(Row(gateway.epoch, *took))

    @rule(
        which=st.integers(0, 2),
        part=st.integers(1, 3),
        fate=st.sampled_from(["heard", "heard", "late", "lost"]),
    )
    def renew(self, which: int, part: int, fate: str) -> None:
        gateway = self.gateways[which]
        asked_at = self.now
        answers = [
            self.metering.renew(gateway.epoch, wish, part, self.settled_below(gateway))
            for wish in gateway.admission.wishes(asked_at, NOW)
        ]
        if fate == "late":
            got = asked(gateway.admission, 20, 20, now=self.now)
            if isinstance(got, Held):
                gateway.progress.append(got)
        if fate != "lost":
            told: Leases = leases(*answers, prices=[PRICE], lease_ms=30_000)
            gateway.admission.take(told, asked_at)

    def settled_below(self, gateway: Gateway) -> int:
        number, epoch = gateway.epoch
        on_the_way = [row.epoch[1] for row in self.rows if row.epoch[0] == number]
        return min([epoch, *on_the_way])

    @precondition(lambda self: self.rows)
    @rule(pick=st.integers(0, 99))
    def write(self, pick: int) -> None:
        self.metering.rate(self.rows.pop(pick % len(self.rows)))

    @rule(which=st.integers(0, 2), part=st.floats(0, 1))
    def kill(self, which: int, part: float) -> None:
        old = self.gateways[which]
        for one in old.progress:
            # Its journal tells what was relayed; the engine may have made as much as it was allowed to.
            self.rows.append(
                Row(old.epoch, one.estimate.prompt_tokens, round(part * one.estimate.answer_tokens))
            )
        self.gateways[which] = Gateway(which, old.epoch[1] + 1, self.amount)

    @rule(passed=st.floats(0, 20))
    def wait(self, passed: float) -> None:
        self.now += passed

    @invariant()
    def never_more_is_spent_than_the_budget(self) -> None:
        if hasattr(self, "metering"):
            assert self.metering.spent <= self.amount

    def teardown(self) -> None:
        if hasattr(self, "metering"):
            for which in range(GATEWAYS):
                self.kill(which, 1.0)
            for row in self.rows:
                self.metering.rate(row)
            assert self.metering.spent <= self.amount


TestOvershoot = Overshoot.TestCase
TestOvershoot.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)


def test_a_burst_over_three_gateways_spends_a_budget_to_its_end_and_no_further() -> None:
    amount, now = 20_000, 100.0
    metering = Metering(amount)
    gateways = [Gateway(number, 1, amount) for number in range(GATEWAYS)]
    refusals = 0
    for turn in range(400):
        now += 0.05
        for gateway in gateways:
            answers = [
                metering.renew(gateway.epoch, wish, 1, 1) for wish in gateway.admission.wishes(now, NOW)
            ]
            gateway.admission.take(leases(*answers, prices=[PRICE]), now)
            for _ in range(5):
                got = asked(gateway.admission, 20, 30, now=now)
                if isinstance(got, Held):
                    got.settle(20, 30 - turn % 7, now)
                    metering.rate(Row(gateway.epoch, 20, 30 - turn % 7))
                else:
                    refusals += 1
    assert refusals
    assert amount * 0.97 < metering.spent <= amount
