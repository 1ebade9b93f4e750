"""A check as one page: what it holds, and, in a browser, that it works without a network."""

import re
import sys

import pytest

from odeopt import check, cli
from odeopt.cli.check_table import print_check
from odeopt.data import load_digits
from odeopt.studies import CheckSettings


@pytest.fixture(scope="module")
def report():
    settings = CheckSettings(width=64, seeds=2, num_steps=40)
    return check(*load_digits(16), methods=["gd", "nag", "hm"], settings=settings, test=0.25)


@pytest.fixture(scope="module")
def page(report):
    return report.to_html("odeopt check --n 12 <&>")


def test_page_holds_derivations_proofs_tables_and_the_command(report, page):
    assert page.count("<math") > 3 * len(report.methods)
    assert page.count("verified in exact arithmetic") == 3
    assert "NOT verified" not in page
    assert "odeopt check --n 12 &lt;&amp;&gt;" in page
    for method in report.methods:
        assert method.exact_ode.formula in page


def test_page_shows_the_losses_on_a_test_set_that_the_terminal_shows(report, page, capsys):
    part = page.partition("<h2>Test set</h2>")[2].partition("<h2>")[0]
    assert "Loss on 4 test examples" in part
    print_check(report)
    told = capsys.readouterr().out
    for method in report.methods:
        for level, at in (("trained", "last"), ("discrete_inf", "last"), ("discrete_h0", "best")):
            loss = f"{method.test[level][at]['loss']:.4g}"
            assert loss in told and f">{loss}" in part
        assert f"{method.name}, iteration, H_inf" in part


def test_a_page_without_a_test_set_has_no_table_of_one():
    small = CheckSettings(width=32, seeds=1, num_steps=3)
    assert "Test set" not in check(*load_digits(5), methods=["gd"], settings=small).to_html()


def test_nothing_is_fetched_by_the_page(page):
    text = re.sub(r"<script.*?</script>", "", page, flags=re.S)
    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", text)
    assert "<script src" not in page


def test_a_folder_that_is_missing_is_noticed_before_training(monkeypatch, capsys, tmp_path):
    def started(*_, **__):
        raise AssertionError("the check was begun")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("odeopt.cli.app.check", started)
    monkeypatch.setattr(sys, "argv", ["odeopt", "check", "--n", "12", "--report", "none/r.html"])
    with pytest.raises(SystemExit) as status:
        cli.main()
    assert status.value.code == 2
    assert "there is no folder" in capsys.readouterr().err


@pytest.mark.slow  # needs chromium and its driver: apt install chromium-driver
@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("dark", [False, True])
def test_page_works_in_a_browser(page, tmp_path, width, dark):
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    path = tmp_path / "report.html"
    path.write_text(page, encoding="utf-8")
    options = webdriver.ChromeOptions()
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-background-networking"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    try:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        driver.get(path.as_uri())
        assert [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"] == []
        events = [entry["message"] for entry in driver.get_log("performance")]
        requests = [text for text in events if "Network.requestWillBeSent" in text]
        assert not [text for text in requests if re.search(r'"url":"https?:', text)]
        shown = "return document.getElementById('loss').querySelectorAll('.scatterlayer .trace').length"
        before = driver.execute_script(shown)
        assert before == 9  # three methods: trained, iteration, ODE
        assert driver.execute_script(shown.replace("loss", "test")) == 9  # and H_inf in place of the ODE
        driver.execute_script("arguments[0].scrollIntoView()", driver.find_element(By.ID, "loss"))
        toggle = driver.find_element(By.CSS_SELECTOR, "#loss .legendtoggle")
        webdriver.ActionChains(driver).move_to_element(toggle).click().perform()
        WebDriverWait(driver, 20).until(lambda d: d.execute_script(shown) < before)
        overflow = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert driver.execute_script(overflow) <= 0  # tables scroll in their own frames
        paper = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert paper == ("rgb(22, 24, 28)" if dark else "rgb(255, 255, 255)")
        driver.save_screenshot(str(tmp_path / f"{width}.png"))
    finally:
        driver.quit()
