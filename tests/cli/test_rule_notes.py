"""Options of a method that is not run are told of, and those of an average are refused by their own name."""

import pytest

from odeopt.cli.app import check_command, sweep_command
from odeopt.cli.rule_options import average_from_text, note_on_methods


def test_options_of_methods_that_are_not_run_are_told_of():
    told = note_on_methods(check_command, ["gd", "HeavyBall"], friction=0.5, r=2.0, momenta="0.3,0.3")
    assert told == "--r is of nag, --momenta is of hm, which is not among the methods that are named"
    assert note_on_methods(sweep_command, ["nag", "hb"], momentum="0.5", r="4", momenta="0.2,0.5") == ""


def test_rules_alone_take_no_options_of_methods():
    assert note_on_methods(check_command, [], hm_regime="inertial").startswith("--hm-regime is of hm")


@pytest.mark.parametrize("text", ["1", "2", "-0.1", "nan", "inf", "word"])
def test_average_out_of_range_is_refused_by_its_name(text):
    with pytest.raises(
        ValueError, match=r"^average must be polyak, or the decay .* from 0 to below 1, got '"
    ):
        average_from_text(text, 100)


def test_average_in_range_is_taken():
    assert (average_from_text("0", 100), average_from_text("0.999", 100)) == (0.0, 0.999)
