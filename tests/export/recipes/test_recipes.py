"""The recipes: their data are what they say, their scores are right, and each goes the whole way.

The fast runs are cut short and judged by nobody; the slow ones must meet their criteria.
"""

import math
import re
import sys
from collections import Counter

import numpy as np
import pytest
import torch

from streamgru_export.recipes import RECIPES, anomaly, characters, co2, denoise, dna, numbers, speech, train
from streamgru_export.recipes import motor as machine

SEED = 4


@pytest.fixture(autouse=True)
def _one_thread():
    print(f"seed {SEED}")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# Whole runs.

SHORT = {
    "co2": ["epochs=1", "batch_size=64"],
    "numbers": ["epochs=1", "batch_size=256"],
    "numbers-additive": ["epochs=1", "batch_size=256"],
    "numbers-dot": ["epochs=1", "batch_size=256"],
    "characters": ["epochs=1", "batch_size=64"],
    "denoise": ["epochs=1", "batch_size=120"],
    "dna": ["epochs=1", "batch_size=250"],
    "anomaly": ["epochs=1"],
}


@pytest.mark.recipe
@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_meets_its_criterion(name, tmp_path):
    outcome = train(name, tmp_path)
    print(outcome.summary())
    assert outcome.met
    assert outcome.ok


def test_every_recipe_has_a_short_run_here():
    assert set(SHORT) == set(RECIPES)


@pytest.fixture
def _small(monkeypatch, short_proofs):
    """Data that are made in no time."""
    sizes = {
        denoise: {"TRAIN": 24, "VALID": 6, "TEST": 1},
        numbers: {"TRAIN": 1000, "VALID": 100, "HELD_OUT": 100},
        dna: {"TRAIN": 500, "VALID": 50},
    }
    for module, counts in sizes.items():
        for name, count in counts.items():
            monkeypatch.setattr(module, name, count)


@pytest.mark.parametrize("name", SHORT)
@pytest.mark.usefixtures("_small")
def test_every_recipe_goes_the_whole_way(name, tmp_path):
    told = []
    outcome = train(name, tmp_path, settings=SHORT[name], say=told.append)
    assert all(report.ok for report in outcome.parity.values())
    assert len(outcome.run.history) == 1
    assert len(told) == 2
    made = {path.name for path in tmp_path.iterdir()}
    assert {"checkpoint.pt", "run.json", "curve.png"} <= made
    assert {path for model in outcome.parity for path in (f"{model}.onnx", f"{model}.sgru", f"{model}.html")} <= made
    assert outcome.to_dict()["ok"] == outcome.ok == outcome.met
    assert outcome.criterion in outcome.summary()


@pytest.mark.usefixtures("_small")
def test_a_setting_wins_over_the_file_and_the_file_over_the_recipe(tmp_path):
    pytest.importorskip("tomllib", reason="Python 3.11 has it")
    toml = tmp_path / "t.toml"
    toml.write_text("[train]\nepochs = 9\nbatch_size = 64\nlearning_rate = 0.001\n")
    outcome = train("co2", tmp_path / "made", settings=["epochs=1"], toml=toml, say=lambda line: None)
    config = outcome.run.config
    assert (config.epochs, config.batch_size, config.learning_rate) == (1, 64, 0.001)
    assert config.optimiser == co2.CONFIG.optimiser


def test_an_unknown_recipe_is_refused_with_those_there_are(tmp_path):
    with pytest.raises(ValueError, match=r"'soup' is no recipe; one of co2, numbers, .* was expected"):
        train("soup", tmp_path)


# CO2.


def test_no_target_of_the_training_lies_in_the_years_that_choose_or_judge():
    series = co2.load_series()
    later = series.ppm.copy()
    later[series.split - co2.CHOOSING :] += 100
    changed = co2.Series(series.dates, later, series.measured, series.split)
    for before, after in zip(co2.make_task(series).train, co2.make_task(changed).train, strict=True):
        scale = series.scale / changed.scale  # the deviation is of all years before the split
        torch.testing.assert_close(after, before * scale, equal_nan=True)


def test_the_last_ten_years_reach_neither_training_nor_choice():
    series = co2.load_series()
    later = series.ppm.copy()
    later[series.split :] += 100
    changed = co2.Series(series.dates, later, series.measured, series.split)
    one, two = co2.make_task(series), co2.make_task(changed)
    for before, after in zip((*one.train, *one.valid), (*two.train, *two.valid), strict=True):
        torch.testing.assert_close(after, before, rtol=0, atol=0, equal_nan=True)


# Numbers.


def spoken(words):
    """The number that words say, read as a listener would."""
    total = group = 0
    for word in words:
        if word == "thousand":
            total, group = group * 1000, 0
        elif word == "hundred":
            group *= 100
        elif word in numbers.ONES:
            group += numbers.ONES.index(word)
        elif word in numbers.TENS:
            group += 10 * (numbers.TENS.index(word) + 2)
        else:
            assert word == "and"
    return total + group


def test_numbers_are_said_as_people_say_them():
    said = {
        0: "zero",
        17: "seventeen",
        40: "forty",
        101: "one hundred and one",
        1000: "one thousand",
        2020: "two thousand and twenty",
        407012: "four hundred and seven thousand and twelve",
        900300: "nine hundred thousand three hundred",
    }
    assert {n: " ".join(numbers.in_words(n)) for n in said} == said


def test_words_say_their_number_and_no_other():
    for n in [*range(1200), *range(1200, 1_000_000, 347), 999_999]:
        words = numbers.in_words(n)
        assert spoken(words) == n
        assert len(words) <= numbers.LONGEST


def test_no_number_is_both_trained_on_and_judged():
    train_on, valid, held_out = numbers.draw(np.random.default_rng(SEED))
    assert (len(train_on), len(valid), len(held_out)) == (numbers.TRAIN, numbers.VALID, numbers.HELD_OUT)
    assert not set(train_on) & set(held_out)
    assert not set(train_on) & set(valid)
    assert not set(valid) & set(held_out)


def test_tensors_hold_sources_and_targets():
    x, lengths, u, target = numbers.tensors([407012, 7])
    assert [numbers.WORDS[i] for i in x[0, : lengths[0]].tolist()] == numbers.in_words(407012)
    assert u.tolist()[0] == [numbers.START, 4, 0, 7, 0, 1, 2]
    assert target.tolist()[0] == [4, 0, 7, 0, 1, 2, numbers.END]
    assert target.tolist()[1] == [7, numbers.END] + [-100] * 5


# Characters.


def test_the_text_is_split_in_order_and_wholly():
    text = characters.read_text()
    alphabet, *parts = characters.split(text)
    assert "".join(alphabet[i] for part in parts for i in part) == text
    assert not text.startswith("#")
    assert [len(part) for part in parts] == pytest.approx([0.8 * len(text), 0.1 * len(text), 0.1 * len(text)], abs=1)


def test_windows_ask_for_the_next_character():
    x, target = characters.windows(np.arange(1000), characters.STRIDE)
    assert torch.equal(x + 1, target)


def test_the_ngram_model_is_its_formula():
    rng = np.random.default_rng(SEED)
    train_on, valid, test = (rng.integers(0, 3, n) for n in (400, 100, 100))
    n3 = Counter(zip(train_on, train_on[1:], train_on[2:], strict=False))

    def p(weights, a, b, c):
        context = sum(n3[a, b, v] for v in range(3))
        pairs = {v: sum(n3[u, b, v] for u in range(3)) for v in range(3)}
        singles = {v: sum(n3[u, w, v] for u in range(3) for w in range(3)) for v in range(3)}
        terms = (
            n3[a, b, c] / context if context else 0,
            pairs[c] / sum(pairs.values()),
            singles[c] / sum(singles.values()),
            1 / 3,
        )
        return sum(w * t for w, t in zip(weights, terms, strict=True))

    found = characters.ngram_bits(train_on, valid, test, 3)

    def bits(weights, ids):
        return -np.mean([math.log2(p(weights, *ids[i : i + 3])) for i in range(len(ids) - 2)])

    grid = [
        np.array([i, j, k, 10 - i - j - k]) / 10 for i in range(11) for j in range(11 - i) for k in range(11 - i - j)
    ]
    best = min((w for w in grid if w[3] > 0), key=lambda w: bits(w, valid))
    assert found == pytest.approx(bits(best, test), abs=0.02)  # the grid's weights are within a tenth of the best


# Anomalies.


def test_the_area_is_the_share_of_pairs_in_order():
    rng = np.random.default_rng(SEED)
    faulty, calm = rng.standard_normal(40) + 1, rng.standard_normal(60)
    assert anomaly.area(faulty, calm) == pytest.approx((faulty[:, None] > calm).mean())


def test_faults_change_what_they_name_and_nothing_else():
    rng = np.random.default_rng(SEED)
    u, x = machine.simulate(3000, rng)
    broken, kind = machine.with_faults(u, x, rng)
    np.testing.assert_array_equal(broken[kind == 0], x[kind == 0])
    sensor = {1: 0, 2: 1, 3: 2, 4: 2}
    for which, column in sensor.items():
        others = [i for i in range(3) if i != column]
        np.testing.assert_array_equal(broken[kind == which][:, others], x[kind == which][:, others])
        assert (broken[kind == which, column] != x[kind == which, column]).mean() > 0.9
    assert Counter(kind.tolist())[1] == machine.FAULT * sum(k == 1 for k in kind[1:][np.diff(kind) > 0])


def test_the_score_forgets_and_adds_up():
    x = np.zeros((3, 3))
    x[:, 1] = [1, 0, 2]
    expected = [0.1**2, 0.09**2, (0.081 + 0.2) ** 2]
    np.testing.assert_allclose(anomaly.score(x, np.zeros((3, 3)), np.ones(3)), expected)
    np.testing.assert_allclose(anomaly.score(x, np.zeros((3, 3)), np.array([1, 0.5, 1])), 4 * np.array(expected))


def test_a_model_that_knows_the_machine_finds_its_faults():
    rng = np.random.default_rng(SEED)
    clean, (u, base) = machine.simulate(9000, rng), machine.simulate(9000, rng)
    x, kind = machine.with_faults(u, base, rng)
    detection = anomaly.judge(lambda u: machine.sensors(u, 0.6), clean, u, x, kind)
    assert detection.found > 0.9
    assert detection.area > 0.85
    assert detection.false_alarms < 0.01


# DNA.


def labels_by_search(sequence):
    """The rule by regular expressions: a box, the first ATG after it, and codons to the first that stops."""
    labels = [0] * len(sequence)
    gene = re.compile(
        r"TATAAT(?P<wait>(?:(?!ATG).)*(?:ATG|$))(?P<codons>(?:(?!TAA|TAG|TGA)...)*(?:TAA|TAG|TGA|.{0,2}$))?"
    )
    at = 0
    while found := gene.search(sequence, at):
        start = found.end("wait")
        for i in range(found.start() + 5, start):
            labels[i] = 1
        if sequence[found.start() + 6 : start].endswith("ATG"):
            stop = found.end("codons")
            ended = sequence[stop - 3 : stop] in dna.STOPS and (stop - start) % 3 == 0 and stop > start
            for i in range(start - 1, stop - ended):
                labels[i] = 2 + (i - start) % 3
            at = stop - 5  # the next box may begin in this gene
        else:
            at = len(sequence)
    return labels


def test_labels_follow_the_rule():
    # The box, a base, the start codon, one codon, one that stops, a base.
    sequence = "G" + "TATAAT" + "C" + "ATG" + "CTA" + "TAA" + "G"
    expected = [0] * 6 + [1] + [1] + [1, 1, 4] + [2, 3, 4] + [2, 3, 0] + [0]
    assert dna.label(sequence) == expected


def test_labels_are_those_of_a_search():
    rng = np.random.default_rng(SEED)
    for _ in range(50):
        sequence = dna.generate(400, rng)
        assert dna.label(sequence) == labels_by_search(sequence)


def test_regions_are_about_as_long_as_each_other():
    counts = Counter(dna.label(dna.generate(20_000, np.random.default_rng(SEED))))
    coding = sum(counts.pop(codon) for codon in (2, 3, 4))
    assert min(*counts.values(), coding) > 20_000 / 5
    assert set(counts) == {0, 1}


def test_the_naive_label_is_the_most_frequent_after_its_context():
    rng = np.random.default_rng(SEED)
    train_on = [dna.generate(300, rng) for _ in range(20)]
    test = dna.generate(2000, rng)

    def contexts(sequence):
        for i, which in enumerate(dna.label(sequence)):
            if i >= dna.CONTEXT - 1:
                yield sequence[i - dna.CONTEXT + 1 : i + 1], which

    seen = Counter(pair for sequence in train_on for pair in contexts(sequence))
    right = [max(range(5), key=lambda v, c=c: (seen[c, v], -v)) == which for c, which in contexts(test)]
    found = dna.context_accuracy(
        np.stack([dna.encode(s) for s in train_on]),
        np.array([dna.label(s) for s in train_on]),
        dna.encode(test),
        np.array(dna.label(test)),
    )
    assert found == pytest.approx(np.mean(right))


# Denoising.


def test_si_sdr_is_blind_to_level_and_knows_the_ratio():
    rng = np.random.default_rng(SEED)
    s = rng.standard_normal(4000)
    n = rng.standard_normal(4000)
    n -= (n @ s) / (s @ s) * s  # no part of the speech
    y = s + n * np.linalg.norm(s) / np.linalg.norm(n) / 10**0.35
    assert denoise.si_sdr(y, s) == pytest.approx(7)
    assert denoise.si_sdr(5 * y, s) == pytest.approx(7)


def test_a_mixture_has_its_ratio_and_its_level():
    rng = np.random.default_rng(SEED)
    mixture = denoise.mix(rng.standard_normal(9000), rng.standard_normal(9000), 5, -20)
    noise = mixture.noisy - mixture.speech
    assert 10 * np.log10(np.mean(mixture.speech**2)) == pytest.approx(-20)
    assert 10 * np.log10(np.mean(mixture.speech**2) / np.mean(noise**2)) == pytest.approx(5)


def test_no_kind_of_noise_both_trains_and_judges():
    assert not set(speech.KNOWN) & set(speech.UNSEEN)
    assert not set(speech.KNOWN.values()) & set(speech.UNSEEN.values())


@pytest.mark.parametrize("kind", [*speech.KNOWN, *speech.UNSEEN])
def test_every_noise_is_made_by_its_seed(kind):
    make = (speech.KNOWN | speech.UNSEEN)[kind]
    one, again, other = (make(8000, np.random.default_rng(seed)) for seed in (SEED, SEED, SEED + 1))
    assert np.isfinite(one).all()
    assert one.std() > 0
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


def test_speech_has_pitch_pauses_and_formants():
    x = speech.speak(4 * speech.RATE, np.random.default_rng(SEED))
    assert len(x) == 4 * speech.RATE
    assert np.mean(x**2) == pytest.approx(1)
    frames = x[: len(x) // 800 * 800].reshape(-1, 800)
    loudness = frames.std(1)
    assert np.quantile(loudness, 0.05) < 0.1 * np.quantile(loudness, 0.95)  # silence between the sounds
    loud = frames[loudness.argmax()]
    correlation = np.correlate(loud, loud, "full")[len(loud) - 1 :] / (loud @ loud)
    assert correlation[40:250].max() > 0.4  # it repeats between 64 and 400 times a second


def test_ideal_gains_of_a_mixture_of_no_noise_are_one():
    rng = np.random.default_rng(SEED)
    x = speech.speak(8000, rng)
    bands = denoise.Bands(denoise.HOP, denoise.CENTRES)
    _, _, ideal = denoise.examples([denoise.Mixture(1e4 * x, 1e4 * x)], bands)  # far above FLOOR
    np.testing.assert_allclose(ideal[0, 2:], 1, atol=1e-6)


def test_the_frames_that_train_are_those_that_stream():
    x = np.random.default_rng(SEED).standard_normal(5 * denoise.HOP)
    frames = denoise.frames(x)
    hops = np.pad(x, (denoise.HOP, 0)).reshape(-1, denoise.HOP)
    np.testing.assert_array_equal(frames, np.concatenate([hops[:-1], hops[1:]], 1))


STUB = """#!{python}
import sys
from streamgru.denoise import write_wav
import numpy as np
out = sys.argv[{place}]
write_wav(out, {rate}, 0.1 * np.sin(np.arange({rate}) / 9))
"""


def test_installed_voices_are_heard_and_missing_ones_are_no_fault(tmp_path, monkeypatch):
    rng = np.random.default_rng(SEED)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert denoise.spoken(tmp_path, rng) is None
    for name, place, rate in (("espeak-ng", 2, 22050), ("sox", -1, speech.RATE)):
        stub = tmp_path / name
        stub.write_text(STUB.format(python=sys.executable, place=place, rate=rate))
        stub.chmod(0o755)
    mixture = denoise.spoken(tmp_path, rng)
    assert len(mixture.noisy) == len(mixture.speech) == speech.RATE
    assert {path.name for path in tmp_path.glob("*.wav")} == {"espeak-clean.wav"}
    (tmp_path / "sox").write_text("#!/bin/false\n")
    assert denoise.spoken(tmp_path, rng) is None
