"""Costs by hand, and the Pareto set by brute force."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from radserve.errors import RadserveError
from radserve.evaluation.cost import Prices, Usage, cost_per_1000, pareto_set, read_prices

PRICES = Prices(
    "EUR", "2026-11-01", "test", {"machine_hour": 0.72, "kilowatt_hour": 0.3, "reader_minute": 2.0, "month": 300.0}
)


def test_the_cost_of_1000_studies_is_the_sum_worked_by_hand() -> None:
    cost = cost_per_1000(Usage(machine_s=5.0, energy_j=360.0, reader_minutes=0.5, studies_per_month=2000), PRICES)
    # 5000 s of machine = 1.3889 h x 0.72; 360 kJ = 0.1 kWh x 0.3; 500 min x 2; half a month x 300
    assert cost.items == pytest.approx(
        {"machine_hour": 1.0, "kilowatt_hour": 0.03, "reader_minute": 1000.0, "month": 150.0}
    )
    assert cost.total == pytest.approx(1151.03)
    assert cost.currency == "EUR"


def test_what_has_no_price_or_no_measurement_is_left_out_with_the_reason() -> None:
    cost = cost_per_1000(Usage(machine_s=None), PRICES)
    assert cost.items == {}
    assert cost.left_out["machine_hour"] == "not measured"
    assert cost.left_out["gigabyte_month"] == "the price file does not name it"


def test_the_shipped_example_of_prices_can_be_read() -> None:
    prices = read_prices(Path(str(files("radserve.evaluation").joinpath("data/prices_example.toml"))))
    assert prices.currency == "EUR"
    assert len(prices.amounts) == 6


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('currency = "EUR"', "has no entry 'date'"),
        ('currency = "EUR"\ndate = "d"\nsource = "s"\n[prices]\ncoffee = 2', "got 'coffee'"),
        ('currency = "EUR"\ndate = "d"\nsource = "s"\n[prices]\nstudy = -1', "study: got -1"),
        ('currency = "EUR"\ndate = "d"\nsource = "s"\n[prices]\nstudy = "1"', "study: got '1'"),
        ("[", "cannot be read"),
    ],
)
def test_a_wrong_price_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(text)
    with pytest.raises(RadserveError, match=message):
        read_prices(path)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=12))
def test_the_pareto_set_is_that_of_brute_force(rows: list[tuple[int, int, int]]) -> None:
    def beats(a: tuple[int, int, int], b: tuple[int, int, int]) -> bool:  # more AUC, less size, less latency
        no_worse = a[0] >= b[0] and a[1] <= b[1] and a[2] <= b[2]
        return no_worse and a != b

    expected = tuple(i for i, row in enumerate(rows) if not any(beats(other, row) for other in rows))
    assert pareto_set(np.array(rows), (True, False, False)) == expected


def test_variants_with_a_nan_are_refused() -> None:
    with pytest.raises(RadserveError, match="row 2 has a NaN"):
        pareto_set(np.array([[1.0], [np.nan]]), (True,))
    with pytest.raises(RadserveError, match=r"expected \(variants, 2\)"):
        pareto_set(np.ones((3, 1)), (True, False))
