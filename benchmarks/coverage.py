"""How often the intervals of `interp.base.stats` hold the truth: a table for docs/methods.md.

    python benchmarks/coverage.py
    python benchmarks/coverage.py --draws 500

Nominal 95 %. Means over topics of values of several shapes, ratios of means (recoveries: effects
with a gap each), shares of answers whose topics agree more or less, and the AUROC of scores with
two examples per topic. Beside each, what the percentile bootstrap of the mean covers. The standard
error of a share of 2,000 draws near .95 is .005. Two minutes on one core.
"""

import argparse

import numpy as np
from scipy.special import ndtr

from interp.base.stats import jackknife_ends, mean_ends, ratio_ends, share_interval, without_each

TOPICS = (4, 6, 10, 16, 24, 50)
SHAPES = {
    "normal": (lambda rng, size: rng.normal(size=size), 0.0),
    "exponential": (lambda rng, size: rng.exponential(size=size), 1.0),
    "skewed rates, beta(.5, 2)": (lambda rng, size: rng.beta(0.5, 2, size), 0.2),
    "log-normal, sigma .5": (lambda rng, size: rng.lognormal(0, 0.5, size), np.exp(0.125)),
    "log-normal, sigma 1": (lambda rng, size: rng.lognormal(0, 1, size), np.exp(0.5)),
}


def held(low: np.ndarray, high: np.ndarray, truth: float) -> float:
    return float(((low <= truth) & (truth <= high)).mean())


def means(shape: str, topics: int, draws: int, rng: np.random.Generator) -> tuple[float, float]:
    """Coverage of the interval, and of the percentile bootstrap, of a mean."""
    draw, truth = SHAPES[shape]
    ours, theirs = [], []
    for part in range(0, draws, 50):  # 50 share their resamples, as the cells of a map do
        values = draw(rng, (50, topics))
        ours.append(held(*mean_ends(values, n_resamples=1000, seed=part), truth))
        times = rng.multinomial(topics, [1 / topics] * topics, 1000)
        ends = np.quantile(values @ times.T / topics, [0.025, 0.975], axis=1)
        theirs.append(held(*ends, truth))
    return float(np.mean(ours)), float(np.mean(theirs))


def ratios(topics: int, draws: int, rng: np.random.Generator) -> float:
    """Recovery .6: gaps are log-normal, effects follow them with noise."""
    found = []
    for part in range(0, draws, 50):
        gap = 3 * rng.lognormal(0, 0.5, (50, topics))
        effect = 0.6 * gap + rng.normal(size=gap.shape)
        found.append(held(*ratio_ends(effect, gap, n_resamples=1000, seed=part), 0.6))
    return float(np.mean(found))


def shares(topics: int, each: int, agree: float, draws: int, rng: np.random.Generator) -> float:
    """Shares from .03 to .97; `agree` is the correlation of answers to one topic."""
    labels, found = np.repeat(range(topics), each), []
    for truth in np.tile(np.linspace(0.03, 0.97, 25), -(-draws // 25)):
        if agree:
            odds = (1 - agree) / agree
            chance = rng.beta(truth * odds, (1 - truth) * odds, topics)
        else:
            chance = np.full(topics, truth)
        hits = rng.random(topics * each) < np.repeat(chance, each)
        found.append(truth in share_interval(hits.tolist(), labels))
    return float(np.mean(found))


def areas(topics: int, shift: float, draws: int, rng: np.random.Generator) -> float:
    """AUROC where each topic has an example of either class and moves both."""
    truth, weights, found = ndtr(shift / np.sqrt(2)), without_each(range(topics)), []
    for _ in range(draws // 4):
        both = np.sqrt(0.7) * rng.normal(size=(2, topics)) + np.sqrt(0.3) * rng.normal(size=topics)
        won = (both[0][:, None] + shift > both[1][None]).astype(float)
        scores = ((weights @ won) * weights).sum(1) / weights.sum(1) ** 2
        low, high = jackknife_ends(scores)
        found.append(low <= truth <= high)
    return float(np.mean(found))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--draws", type=int, default=2000)
    draws, rng = parser.parse_args().draws, np.random.default_rng(0)
    rows = {}
    for shape in SHAPES:
        both = [means(shape, n, draws, rng) for n in TOPICS]
        rows[f"mean, {shape}"] = [ours for ours, _ in both]
        rows["(percentile bootstrap)" + " " * len(rows)] = [theirs for _, theirs in both]
    rows["ratio of means"] = [ratios(n, draws, rng) for n in TOPICS]
    for each, agree in ((1, 0.0), (2, 0.3), (5, 0.1), (5, 0.7)):
        name = f"share, {each} per topic, correlation {agree}"
        rows[name] = [shares(n, each, agree, draws, rng) for n in TOPICS]
    for shift in (0.7, 2.5):
        name = f"AUROC {ndtr(shift / np.sqrt(2)):.2f}"
        rows[name] = [areas(n, shift, draws, rng) for n in TOPICS]
    print("| 95 % interval of a | " + " | ".join(f"{n} topics" for n in TOPICS) + " |")
    print("|---" * (1 + len(TOPICS)) + "|")
    for name, found in rows.items():
        print(
            f"| {name.strip()} | "
            + " | ".join(f"{x:.3f}"[1:] if x < 1 else "1" for x in found)
            + " |"
        )


if __name__ == "__main__":
    main()
