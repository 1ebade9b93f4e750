"""Methods by name: known ones once each, and the nearest where one is not known; rules from text."""

import pytest

from odeopt import Adam, GradientDescent, HeavyBall
from odeopt.rules import Averaged, Cosine, Lookahead
from odeopt.rules.names import METHODS, method_names, named_rules, rule_named, rules_written


def test_method_names_suggest_the_nearest():
    assert method_names(["gd", "tm"]) == ("gd", "tm")
    with pytest.raises(ValueError, match="did you mean 'hb'"):
        method_names(["hbb"])
    with pytest.raises(ValueError, match="empty"):
        method_names([])
    with pytest.raises(ValueError, match="differ"):
        method_names(["gd", "gd"])
    with pytest.raises(ValueError, match=r"unknown method 'tm'.* Known are gd, hb$"):
        method_names(["tm"], ("gd", "hb"))
    assert set(METHODS) >= {"gd", "hb", "nag", "nagc", "hm", "tm"}


def test_rules_from_text_have_their_numbers_and_switches():
    assert rule_named("HeavyBall", ["lr=0.1", "momentum=0.9"]) == HeavyBall(0.1, 0.9)
    assert rule_named("Adam", ["lr=0.1", "bias_correction=false"]) == Adam(0.1, bias_correction=False)


@pytest.mark.parametrize(
    ("name", "hyperparameters", "words"),
    [
        ("HeavyBal", ["lr=0.1"], "unknown method 'HeavyBal'; did you mean HeavyBall?"),
        ("HeavyBall", ["lr=0.1", "momentum"], "name=value, got 'momentum'"),
        ("HeavyBall", ["lr=0.1", "lr=0.2", "momentum=0.9"], "lr is given twice, the second time as '0.2'"),
        ("HeavyBall", ["lr=0.1", "momentum=x"], "momentum must be numbers separated by commas, or schedules"),
        ("HeavyBall", ["lr=0.1", "beta=0.9"], "HeavyBall takes lr, momentum"),
    ],
)
def test_text_that_is_no_rule_is_refused_with_the_reason(name, hyperparameters, words):
    with pytest.raises(ValueError) as error:
        rule_named(name, hyperparameters)
    assert words in str(error.value)


def test_a_method_is_known_by_both_of_its_names_in_any_case():
    assert method_names(["GradientDescent", "HB"], ("gd", "hb")) == ("gd", "hb")
    assert rule_named("heavyball", ["lr=0.1", "momentum=0.5"]) == HeavyBall(0.1, 0.5)
    with pytest.raises(ValueError, match="methods must differ, got gd, GradientDescent"):
        method_names(["gd", "GradientDescent"])
    with pytest.raises(ValueError, match="did you mean GradientDescent"):
        rule_named("gradient", ["lr=0.1"])


def test_a_rule_without_numbers_is_refused_with_what_is_missing():
    with pytest.raises(ValueError, match=r"hb takes lr, momentum, .*: lr, momentum is missing, as in lr=0.1"):
        rule_named("hb", [])
    with pytest.raises(ValueError, match="unknown method 'adam'; Adam has no numbers of its own here"):
        method_names(["adam"], ("gd", "hb"))


def test_short_names_make_rules():
    assert all(
        type(rule_named(short, ["lr=0.1"])) is rule for short, rule in METHODS.items() if short in "gd nag"
    )


def test_averages_are_of_every_named_rule_and_of_rules_written_around_others():
    first, second = named_rules(["gd", "hb"], lr=[0.1], average="polyak", weight_decay=0.2)
    assert first == Averaged(GradientDescent(0.1, weight_decay=0.2))
    assert second == Averaged(HeavyBall(0.1, 0.9, weight_decay=0.2))
    texts = ["Averaged HeavyBall lr=cosine:0.1 momentum=0.5 decay=0.9", "Lookahead gd lr=0.1 steps=4"]
    averaged, ahead = rules_written(texts, 50)
    assert averaged == Averaged(HeavyBall(Cosine(0.1, 50), 0.5), decay=0.9)
    assert ahead == Lookahead(GradientDescent(0.1), steps=4)
    for text in ("Averaged", "Averaged lr=0.1"):
        with pytest.raises(ValueError, match="Averaged goes around a rule"):
            rules_written([text])
