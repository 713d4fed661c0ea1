"""The demo's series and its scoring; the whole road at its end."""

import json

import numpy as np
import pytest

from streamgru_export.recipes import co2, demo


@pytest.fixture(scope="module")
def series():
    return co2.load_series()


def test_the_series_is_the_one_its_source_describes(series):
    # statsmodels.datasets.co2: 2284 weeks from 1958-03-29, 59 of them without a measurement.
    assert (len(series.ppm), int((~series.measured).sum())) == (2284, 59)
    assert (series.dates[0].isoformat(), series.ppm[0]) == ("1958-03-29", 316.1)
    assert (series.dates[-1].isoformat(), series.ppm[-1]) == ("2001-12-29", 371.5)
    assert {b.toordinal() - a.toordinal() for a, b in zip(series.dates, series.dates[1:], strict=False)} == {7}


def test_a_missing_week_repeats_the_last_measurement(series):
    week = series.dates.index(co2.datetime.date(1958, 5, 10))
    assert (series.measured[week], series.ppm[week], series.ppm[week - 1]) == (False, 316.9, 316.9)
    assert (series.scored[week - 1], series.scored[week]) == (False, False)


def test_nothing_held_out_enters_a_frame_before_its_week(series):
    later = series.ppm.copy()
    later[series.split :] += 100
    changed = co2.Series(series.dates, later, series.measured, series.split)
    np.testing.assert_array_equal(changed.frames[: series.split], series.frames[: series.split])
    assert changed.scale == series.scale


def test_a_perfect_forecast_scores_zero(series):
    assert co2.score(series, np.append(series.ppm[1:], 0)) == 0


def test_baselines_look_back_only(series):
    week = series.split + 100
    later = series.ppm.copy()
    later[week + 1 :] += 100
    changed = co2.Series(series.dates, later, series.measured, series.split)
    for name, forecast in co2.baselines(series).items():
        assert co2.baselines(changed)[name][week] == forecast[week], name


def test_the_naive_forecasts_are_what_they_say(series):
    c, week = series.ppm, series.split + 5
    persistence, seasonal, drift = (forecast[week] for forecast in co2.baselines(series).values())
    assert (persistence, seasonal) == (c[week], c[week + 1 - 52])
    assert drift == pytest.approx(c[week + 1 - 52] + (c[week] - c[week - 52]))


@pytest.mark.slow
def test_the_whole_road(tmp_path, capsys):
    ok, data, text = demo.answer(tmp_path, quiet=True)
    result = json.loads(json.dumps(data))
    assert (ok, result["ok"], text, capsys.readouterr().out) == (True, True, "", "")
    made = {"co2.onnx", "co2.sgru", "report.html", "forecast.png"}
    assert made <= {path.name for path in tmp_path.iterdir()}
    rmse = result["rmse_ppm"]
    assert rmse["streamed GRU"] == min(rmse.values())
