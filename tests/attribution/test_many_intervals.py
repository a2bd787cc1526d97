"""Many means at once are those of `interp.base.stats`, one by one."""

import pytest
import torch

from interp.attribution.intervals import table_of_means
from interp.base.stats import fdr_bh, mean_interval, sign_flip_p
from interp.errors import InputError


@pytest.mark.parametrize("n", [9, 31])
@pytest.mark.parametrize("clustered", [False, True])
def test_equal_to_one_by_one(n, clustered):
    values = torch.randn(4, n, generator=torch.Generator().manual_seed(n)) + 0.4
    clusters = [f"t{i % (n // 2)}" for i in range(n)] if clustered else None
    table = table_of_means(values, clusters=clusters, seed=5)
    for row, one in zip(table.itertuples(), values, strict=True):
        interval = mean_interval(one, clusters, seed=5)
        assert (row.low, row.high) == pytest.approx((interval.low, interval.high))
        assert row.p == pytest.approx(sign_flip_p(one, 5, topics=clusters))
        assert row.mean == pytest.approx(float(one.double().mean()))
    assert table["p_adjusted"].tolist() == pytest.approx(fdr_bh(table["p"].to_numpy()).tolist())


def test_bad_input():
    with pytest.raises(InputError, match="not finite"):
        table_of_means(torch.tensor([[1.0, torch.nan]]))
    with pytest.raises(InputError, match="at least two values"):
        table_of_means(torch.ones(2, 1))
    with pytest.raises(InputError, match="3 values but 2 topic labels"):
        table_of_means(torch.ones(2, 3), clusters=["a", "b"])
    with pytest.raises(InputError, match="nothing to take the mean of"):
        table_of_means(torch.ones(0, 3))
