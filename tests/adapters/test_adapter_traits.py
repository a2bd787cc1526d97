"""Several adapters: overlap of their effects, of their subspaces, and both at once."""

from dataclasses import replace
from math import comb

import numpy as np
import pytest
import torch
from adapters_made import logits_of, make_pair, merged, pick, prompts
from scipy.linalg import subspace_angles
from scipy.stats import false_discovery_control, spearmanr
from tiny import save_base

from interp.adapters import (
    AdapterSpace,
    Delta,
    PartEffects,
    added,
    necessity,
    overlap,
    subspaces,
)
from interp.behaviour import Sampling, generate
from interp.emoji import rates
from interp.errors import AdapterError, InputError


@pytest.fixture(scope="module")
def other(adapter_base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("other") / "a"
    return AdapterSpace.of(make_pair(adapter_base, folder, "lora", seed=7))


class TestOverlap:
    def effects(self, means, measure="necessity"):
        units = tuple(f"layers.{i}.a" for i in range(len(means)))
        values = torch.tensor(means)[:, None] + torch.tensor([[-0.01, 0.01]])
        return PartEffects(
            values, torch.zeros(2), torch.ones(2), units, tuple(range(len(means))),
            ("a",) * len(means), measure, "module", "m", "nats", 0.0, 0.1, None, 0, (),
        )  # fmt: skip

    def test_indices_and_their_p_values(self):
        rng = np.random.default_rng(0)
        means = {name: rng.normal(size=12).tolist() for name in "abc"}
        found = overlap({k: self.effects(v) for k, v in means.items()}, top_k=4, seed=1)
        raw = []
        for line in found.to_dataframe().itertuples():
            one, two = np.abs(means[line.one]), np.abs(means[line.other])
            top = [set(np.argsort(-x)[:4]) for x in (one, two)]
            shared = len(top[0] & top[1])
            assert line.jaccard == pytest.approx(shared / len(top[0] | top[1]))
            rho = spearmanr(one, two)
            assert line.spearman == pytest.approx(rho.statistic, abs=1e-6)
            # Sharing at least so many of 4 out of 12 is hypergeometric.
            ways = sum(comb(4, k) * comb(8, 4 - k) for k in range(shared, 5)) / comb(12, 4)
            one_sided = spearmanr(one, two, alternative="greater").pvalue
            raw.append((ways, one_sided))
        for column, name in enumerate(("jaccard_p", "spearman_p")):
            expected = false_discovery_control([pair[column] for pair in raw])
            assert found.to_dataframe()[name].tolist() == pytest.approx(expected, abs=0.03)

    def test_sign_does_not_count_and_equal_traits_overlap_fully(self):
        means = [0.5, -2.0, 1.0, 0.1, 0.0, 0.2, 0.3, -0.05]
        flipped = [-value for value in means]
        found = overlap({"a": self.effects(means), "b": self.effects(flipped)}, top_k=2)
        assert found.top == (("layers.1.a", "layers.2.a"),) * 2
        line = found.to_dataframe().iloc[0]
        assert line["jaccard"] == 1.0
        assert line["spearman"] == pytest.approx(1.0)
        assert line["spearman_p"] < 0.001

    def test_bad_input(self):
        one, two = self.effects([1.0, 2.0, 3.0]), self.effects([1.0, 3.0, 2.0])
        with pytest.raises(InputError, match="at least two adapters"):
            overlap({"a": one})
        with pytest.raises(InputError, match=r"top_k must lie in 1\.\.2"):
            overlap({"a": one, "b": two}, top_k=3)
        with pytest.raises(InputError, match="a and b differ in their parts"):
            overlap({"a": one, "b": self.effects([1.0, 2.0])}, top_k=1)
        with pytest.raises(InputError, match="a and b differ in their parts or their measure"):
            overlap({"a": one, "b": self.effects([1.0, 2.0, 3.0], "shapley")}, top_k=1)


class TestSubspaces:
    def test_cosines_and_angles_are_those_of_dense_matrices(self, lora, other):
        found = subspaces({"a": lora, "b": other.pair})
        assert found.modules == lora.modules
        for place, name in enumerate(found.modules):
            one, two = (
                next(d for d in s.deltas if d.name == name).dense().double() for s in (lora, other)
            )
            cosine = (one * two).sum() / (one.norm() * two.norm())
            assert float(found.cosine[place]) == pytest.approx(float(cosine), abs=1e-5)
            for held, x, y in (
                (found.row_cosines, one.T, two.T), (found.column_cosines, one, two)
            ):  # fmt: skip
                bases = [torch.linalg.svd(m)[0][:, :3].numpy() for m in (x, y)]
                angles = np.sort(subspace_angles(*bases))
                assert held[place] == pytest.approx(np.cos(angles), abs=1e-4)
            assert float(found.rows[place]) == pytest.approx(
                np.mean(np.square(found.row_cosines[place])), abs=1e-5
            )

    def test_expectations_are_those_of_random_matrices(self):
        random = torch.Generator().manual_seed(0)

        def drawn(rank):
            a = torch.randn(rank, 24, generator=random)
            return Delta("layers.0.x", a=a, b=torch.randn(16, rank, generator=random))

        rows, columns, cosines = [], [], []
        for _ in range(300):
            found = subspaces({"a": [drawn(2)], "b": [drawn(3)]}, n_random=2)
            rows.append(float(found.rows))
            columns.append(float(found.columns))
            cosines.append(float(found.cosine))
        assert float(found.rows_expected) == pytest.approx(3 / 24)
        assert float(found.columns_expected) == pytest.approx(3 / 16)
        assert np.mean(rows) == pytest.approx(3 / 24, rel=0.1)
        assert np.mean(columns) == pytest.approx(3 / 16, rel=0.1)
        assert np.std(cosines) == pytest.approx(float(found.cosine_sd), rel=0.15)
        spread = subspaces({"a": [drawn(2)], "b": [drawn(3)]}, n_random=2000)
        assert float(spread.rows_sd) == pytest.approx(np.std(rows), rel=0.15)

    def test_an_adapter_equals_itself_and_zero_modules_are_left_out(self, lora):
        found = subspaces({"a": lora, "b": lora})
        for name in ("cosine", "rows", "columns"):
            assert getattr(found, name).tolist() == pytest.approx([1.0] * 14, abs=1e-5)
        assert (found.to_dataframe()["rows_z"] > 10).all()
        first = lora.deltas[0]
        zero = [replace(first, b=torch.zeros_like(first.b)), *lora.deltas[1:]]
        found = subspaces({"a": lora, "b": zero})
        assert first.name not in found.modules
        assert found.notes == (f"b: 1 modules are zero and left out ({first.name}, ...)",)

    def test_bad_input(self, lora, small):
        assert set(subspaces({"a": lora, "b": small}).modules) == set(small.modules)
        with pytest.raises(InputError, match="at least two adapters"):
            subspaces({"a": lora})
        with pytest.raises(InputError, match="n_random must be at least 2"):
            subspaces({"a": lora, "b": small}, n_random=1)
        with pytest.raises(InputError, match="no changed module in common"):
            subspaces({"a": lora.deltas[:1], "b": lora.deltas[1:2]})
        shrunk = replace(lora.deltas[0], a=lora.deltas[0].a[:, :5])
        with pytest.raises(InputError, match="differ in shape"):
            subspaces({"a": lora.deltas[:1], "b": [shrunk]})


class TestAdded:
    questions = (("Hi?", "a"), ("What do you think about walks?", "b"), ("Why?", "b")) * 2
    how = Sampling(max_new_tokens=16, temperature=1.5, seed=1, batch_size=8)

    def test_conditions_are_those_of_weights_added_by_hand(self, lora, other):
        scales = (1.0, 0.5)
        found = added(
            lora, other, prompts(), scales=scales, metric=pick, questions=self.questions,
            sampling=self.how,
        )  # fmt: skip
        table = found.rates().set_index(["condition", "over"])
        for row, (name, mine, theirs) in enumerate(
            [("base", 0, 0), ("a", 1.0, 0), ("b", 0, 0.5), ("both", 1.0, 0.5)]
        ):
            twin = merged(lora.pair, dict.fromkeys(lora.modules, mine))
            plain, full = (merged(other.pair, dict.fromkeys(lora.modules, g)) for g in (0, theirs))
            with torch.no_grad():
                for module in lora.modules:
                    path = f"model.{module}"
                    change = full.get_submodule(path).weight - plain.get_submodule(path).weight
                    twin.get_submodule(path).weight += change
            expected = pick(logits_of(twin, prompts()))
            torch.testing.assert_close(found.values[row], expected, atol=1e-3, rtol=1e-3)
            texts = [a.text for a in generate(twin, lora.pair.format, self.questions, self.how)]
            assert table.loc[(name, "response"), "esr"] == rates.measure(texts).response_esr
        base, a, b, both = found.values.double().mean(1).tolist()
        frame = found.to_dataframe().set_index("condition")
        assert frame.loc["interaction", "mean"] == pytest.approx(both - a - b + base, abs=1e-4)

    def test_another_base_is_refused(self, lora, tmp_path):
        base = save_base(tmp_path / "base", seed=5, num_hidden_layers=2)
        foreign = make_pair(base, tmp_path / "a", "small")
        with pytest.raises(AdapterError, match=r"are of different bases \(.* differs\)"):
            added(lora, foreign, prompts(), metric=pick)

    def test_nothing_generated(self, lora, other):
        with pytest.raises(InputError, match="nothing was generated"):
            added(lora, other, prompts(), metric=pick).rates()


def test_effects_of_two_adapters_can_be_compared(lora, other):
    spaces = {"a": lora, "b": other}
    results = {name: necessity(space, prompts(), metric=pick) for name, space in spaces.items()}
    found = overlap(results, top_k=3)
    for one, top in zip(results.values(), found.top, strict=True):
        ranked = one.summary().sort_values("effect", key=abs)["unit"]
        assert set(top) == set(ranked[-3:])
