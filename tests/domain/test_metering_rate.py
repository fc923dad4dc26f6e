"""What a line costs, and that rounding loses nothing."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from mesh_contracts.inference import UsageMetered, UsageRow
from mesh_contracts.metering import Price, UsageRated, UsageRecorded
from meshkit.testing import NOW, envelope, test_id
from metering.domain import rate
from metering.domain.told import told

MODELS = ("tiny", "all-minilm-l6-v2", "other")
PROJECTS = tuple(test_id("project", name) for name in ("p1", "p2"))


def price(model: str, at: datetime, per_in: int = 3, per_out: int = 7) -> Price:
    return Price(
        price_id=f"{model}@{at.isoformat()}",
        model=model,
        price_microeur_per_mtoken_in=per_in,
        price_microeur_per_mtoken_out=per_out,
        valid_from=at,
    )


DEFAULT = price("*", datetime(2000, 1, 1, tzinfo=UTC), 200_000, 600_000)


def row(**fields: Any) -> UsageRow:
    request_id = fields.pop("request_id", None) or test_id("request")
    return UsageRow(
        **{
            "request_id": request_id,
            "organization": test_id("org", "o"),
            "project": PROJECTS[0],
            "key_id": test_id("key", "k"),
            "endpoint_id": test_id("endpoint", "e"),
            "model": "tiny",
            "route": "chat",
            "streamed": False,
            "started_at": NOW,
            "ended_at": NOW + timedelta(seconds=1),
            "state": "completed",
            "status": 200,
            "tokens_from": "engine",
            "prompt_tokens": 10,
            "completion_tokens": 20,
            **fields,
        }
    )


times = st.integers(-200_000, 200_000).map(lambda hours: NOW + timedelta(hours=hours / 4))
tokens = st.none() | st.integers(0, 10_000_000)
rows = st.builds(
    row,
    project=st.sampled_from(PROJECTS),
    model=st.sampled_from(MODELS),
    prompt_tokens=tokens,
    completion_tokens=tokens,
    started_at=times,
)
prices = st.integers(0, 10**9)
books = st.lists(
    st.builds(
        price,
        st.sampled_from(MODELS),
        times,
        prices,
        prices,
    ),
    max_size=6,
    unique_by=lambda one: one.price_id,
).map(lambda book: [*book, DEFAULT])


@given(st.lists(rows, max_size=30), books, st.integers(0, 30))
def test_the_lines_of_a_project_and_price_sum_to_the_exact_total_rounded_down_once(
    given_rows: list[UsageRow], book: list[Price], cut: int
) -> None:
    # In two batches, the remainder carried from the first to the second.
    first = rate.rate(given_rows[:cut], book, {})
    second = rate.rate(given_rows[cut:], book, first.remainders)
    lines = first.lines + second.lines
    by_id = {one.price_id: one for one in book}
    left = {**first.remainders, **second.remainders}
    for debtor, remainder in left.items():
        of = [line for line in lines if (line.usage.project, line.price_id) == debtor]
        exact = sum(rate.exact_cost(line.usage, by_id[debtor[1]]) for line in of)
        assert sum(line.cost_microeur for line in of) == exact // 1_000_000
        assert exact % 1_000_000 == remainder
    assert [line.usage for line in lines] == given_rows


@given(rows, books)
def test_a_request_is_priced_by_its_models_newest_price_in_force_else_by_the_default(
    one: UsageRow, book: list[Price]
) -> None:
    chosen = rate.price_for(book, one.model, one.started_at)
    own = [p for p in book if p.model == one.model and p.valid_from <= one.started_at]
    if own:
        assert chosen in own
        assert chosen.valid_from == max(p.valid_from for p in own)
    else:
        assert chosen == DEFAULT


def test_tokens_that_nobody_counted_cost_nothing_and_are_known_to_be_unknown() -> None:
    unknown = row(prompt_tokens=None, completion_tokens=None, tokens_from="none", state="failed")
    half = row(prompt_tokens=5_000_000, completion_tokens=None)
    rated = rate.rate([unknown, half], [DEFAULT], {})
    assert [line.cost_microeur for line in rated.lines] == [0, 1_000_000]
    assert rate.uncounted(unknown)
    assert rate.uncounted(half)
    assert not rate.uncounted(row())
    assert not rate.uncounted(row(prompt_tokens=None, completion_tokens=None, attempts=0))


def test_a_million_requests_of_one_token_cost_what_a_million_tokens_cost() -> None:
    book = [price("tiny", NOW, 1, 1)]
    rated = rate.rate([row(prompt_tokens=1, completion_tokens=0)] * 1000, [DEFAULT, *book], {})
    assert sum(line.cost_microeur for line in rated.lines) == 0
    debtor = (PROJECTS[0], book[0].price_id)
    last = rate.rate(
        [row(prompt_tokens=999_000, completion_tokens=0)], [DEFAULT, *book], rated.remainders
    )
    assert last.lines[0].cost_microeur == 1
    assert last.remainders[debtor] == 0


@given(
    st.lists(st.sampled_from([test_id("request", str(n)) for n in range(6)]), max_size=12), st.data()
)
def test_a_request_that_has_a_line_gets_no_other(request_ids: list[str], data: st.DataObject) -> None:
    known = data.draw(st.sets(st.sampled_from([test_id("request", str(n)) for n in range(6)])))
    fresh = rate.fresh([row(request_id=one) for one in request_ids], known)
    assert [one.request_id for one in fresh] == list(
        dict.fromkeys(one for one in request_ids if one not in known)
    )


def batch(given_rows: list[UsageRow]) -> UsageMetered:
    producer = test_id("gateway", "g1")
    return UsageMetered(**envelope(producer), producer=producer, epoch=1, sequence=1, rows=given_rows)


@given(st.lists(rows, min_size=1, max_size=20))
def test_what_is_told_of_a_batch_sums_to_its_lines(given_rows: list[UsageRow]) -> None:
    lines = rate.rate(given_rows, [DEFAULT], {}).lines
    rated, *recorded = told(batch(given_rows), lines, NOW)
    assert isinstance(rated, UsageRated)
    assert rated.rows == lines
    assert len({fact.fact_id for fact in recorded}) == len(recorded)
    assert len(
        {(fact.project, fact.model) for fact in recorded if isinstance(fact, UsageRecorded)}
    ) == len(recorded)
    for fact in recorded:
        assert isinstance(fact, UsageRecorded)
        of = [x for x in lines if (x.usage.project, x.usage.model) == (fact.key, fact.model)]
        assert fact.requests == len(of)
        assert fact.prompt_tokens == sum(x.usage.prompt_tokens or 0 for x in of)
        assert fact.completion_tokens == sum(x.usage.completion_tokens or 0 for x in of)
        assert fact.cost_microeur == sum(x.cost_microeur for x in of)
        assert fact.interval_start == min(x.usage.started_at for x in of)
        assert fact.interval_end == max(x.usage.ended_at for x in of)
        assert fact.project == fact.key
    assert sum(fact.requests for fact in recorded if isinstance(fact, UsageRecorded)) == len(lines)


def test_nothing_is_told_of_a_batch_whose_requests_all_have_lines() -> None:
    assert told(batch([row()]), [], NOW) == []
