"""Thinned grids: each day every value, over some days every case."""

import thinned


def test_each_day_meets_every_value_and_three_days_every_case(monkeypatch):
    families, sites = list("abcd"), [("q", "head"), ("z", "pos"), ("z", "head")]
    met = []
    for seed in (5, 6, 7):
        monkeypatch.setattr(thinned, "SEED", seed)
        cases = thinned.thinned(families, sites)
        today = [case for case in cases if not case.marks]
        assert len(cases) == 12
        assert len(today) == 4
        assert {case.values[0] for case in today} == set(families)
        assert {case.values[1] for case in today} == set(sites)
        met += [case.id for case in today]
    assert len(set(met)) == 12
    assert "a-q-head" in met


def test_every_turn_has_its_day_and_a_tokenizer_the_same_everywhere(monkeypatch):
    turns, read, some = [], [], []
    for seed in (5, 6, 7):
        monkeypatch.setattr(thinned, "SEED", seed)
        turns += [place for place in range(3) if thinned.turn(place, 3).name != "soak"]
        read += [case.id for case in thinned.todays() if case.marks[0].name != "soak"]
        some += [case.id for case in thinned.todays("qwen2") if case.marks[0].name != "soak"]
        assert {*some} == {*read} & {"qwen2"}
        assert [case.id for case in thinned.parts(0, 3)] == ["today", "all"]
    assert sorted(turns) == [0, 1, 2]
    assert sorted(read) == sorted(thinned.TOKENIZERS)
