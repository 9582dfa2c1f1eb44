from raytrain.report.verdicts import probe_fate


def test_a_difference_whose_interval_contains_zero_is_noise(make_task):
    assert "could be chance" in make_task(after=0.51, low=-0.05, high=0.07).sentence
    assert "more than chance" in make_task().sentence


def test_probes_are_kept_improved_or_forgotten(make_task):
    assert probe_fate(make_task(before=0.8, after=0.1, low=-0.8, high=-0.6, probe=True)) == "mostly"
    assert probe_fate(make_task(before=0.8, after=0.6, low=-0.3, high=-0.1, probe=True)) == "partly"
    assert probe_fate(make_task(before=0.8, after=0.79, low=-0.05, high=0.03, probe=True)) == "kept"
    assert probe_fate(make_task(probe=True)) == "improved"
    assert (
        probe_fate(make_task(before=1.0, after=2.0, low=0.5, high=1.5, probe=True, better="lower", scale="raw"))
        == "partly"
    )


def test_the_sentence_of_a_kept_probe_bounds_the_possible_loss(make_task):
    assert "unlikely to exceed 5.0" in make_task(before=0.8, after=0.79, low=-0.05, high=0.03, probe=True).sentence
