"""Without cures, faults or witnesses each test concerned must fail by its own assertion."""

from __future__ import annotations

import pytest

from inner_runs import Run
from maillab.suite import results

# What is withheld from a scenario of each kind.
NAMED_FOR = {kind: withheld for withheld, kind in results.NAMED.items()}


def test_without_cures_a_cure_test_must_fail_by_its_own_assertion(run: Run) -> None:
    """RED is the goal, and the run is then a success without any failure."""
    text = """
def test_cure_asserts(lab):
    assert lab.scenario.withhold == "nothing"

def test_cure_raises(lab):
    with pytest.raises(ValueError):
        pass
"""
    result = run("-v", "--withhold", "cures", test_it=text)

    assert result.ret == 0
    assert result.parseoutcomes() == {"red": 2}
    result.stdout.fnmatch_lines(["*::test_cure_asserts RED*"])
    assert "assert lab.scenario.withhold" not in result.stdout.str()


def test_a_red_test_leaves_no_evidence(run: Run, pytester: pytest.Pytester) -> None:
    """There is nothing to investigate."""
    run("--withhold", "cures", test_it="def test_cure_it(lab): assert 0\n")

    assert not (pytester.path / "runs").exists()


@pytest.mark.parametrize(
    ("body", "observed"),
    [
        ("pass", "passed"),
        ("lab.break_down()", "error: test_it.py:9: mail: postqueue -f: status 1: no such thing"),
        ("raise ValueError('my words')", "error: *\nE * ValueError: my words"),
        ("lab.expects(lost=1, because='x')", "ledger: *\nnot conserved: 0 lost, 1 expected"),
        ("lab.break_down_in_the_end()", "error: *mail: no answer any more"),
        ("pytest.skip('not today')", "skipped: *not today*"),
        ("pytest.xfail('not today')", "skipped: *\nE * not today"),
    ],
)
@pytest.mark.parametrize(("withheld", "kind"), [("cures", "cure"), ("faults", "symptom")])
def test_any_other_outcome_is_reported_and_fails_the_run(
    run: Run, withheld: str, kind: str, body: str, observed: str
) -> None:
    """With the test's name and the observed outcome."""
    text = f"def test_{kind}_it(lab):\n    {body}\ndef test_{kind}_red(lab): assert 0\n"

    result = run("--withhold", withheld, test_it=text)

    assert result.ret == 1
    assert result.parseoutcomes() == {"failed": 1, "red": 1}
    result.stdout.fnmatch_lines(
        [
            f"*_ test_{kind}_it _*",
            *f"did not fail by its own assertion; {observed}".splitlines(),
            f"FAILED *::test_{kind}_it - *",
        ]
    )


@pytest.mark.parametrize(
    ("withheld", "more"), [("", []), ("", ["-n", "1"]), ("cures", []), ("faults", [])]
)
def test_a_fault_that_the_kernel_does_not_support_skips_the_test(
    run: Run, withheld: str, more: list[str]
) -> None:
    """There is no verdict, and so no failure of a withholding run; the run names the reason."""
    text = """
def test_cure_it(lab): lab.lack("loop devices")
def test_symptom_it(lab): lab.lack("loop devices")
"""
    options = ("--withhold", withheld) if withheld else ()

    result = run(*options, *more, test_it=text)

    assert result.ret == 0
    result.assert_outcomes(skipped=1 if withheld else 2, deselected=1 if withheld else 0)
    lines = result.outlines
    head = next(n for n, line in enumerate(lines) if "= not supported here: these te" in line)
    tests = [kind for kind in ("cure", "symptom") if withheld in ("", NAMED_FOR[kind])]
    assert lines[head + 1 : head + 1 + 2 * len(tests)] == [
        line
        for kind in tests
        for line in (f"test_it.py::test_{kind}_it", "mail: the kernel lacks loop devices")
    ]


def test_a_scenario_that_skips_itself_is_not_named_as_unsupported(run: Run) -> None:
    """It has its own reason, which pytest prints on request."""
    result = run(test_it="def test_behaviour_it(lab): pytest.skip('not today')\n")

    result.assert_outcomes(skipped=1)
    assert "not supported here" not in result.stdout.str()


def test_an_error_is_not_recorded_as_a_contrast(run: Run, pytester: pytest.Pytester) -> None:
    """It says nothing about the scenario, so maillab faq must not count it."""
    text = """
@pytest.mark.faq("firewall", "5b")
def test_cure_broken(lab): lab.break_down()

@pytest.mark.faq("firewall", "5b")
def test_cure_weak(lab): pass
"""
    run("--withhold", "cures", test_it=text)

    assert results.contrasts(pytester.path / "runs") == {
        "test_it.py::test_cure_weak": {"3.10": {"cures": "green"}}
    }


def test_without_cures_a_void_is_no_red(run: Run) -> None:
    """A cure test whose fault did nothing proves nothing in either run."""
    text = "def test_cure_it(lab):\n    with lab.mail.faulty(Noop()): pass\n    assert 0\n"

    result = run("--withhold", "cures", test_it=text)

    assert result.ret == 1
    result.stdout.fnmatch_lines(["did not fail by its own assertion; void: *Noop on mail*"])


USES = {
    "faults": ["lab.mail.mistake.write('/etc/x', '')", "with lab.mail.faulty(Noop()): pass"],
    "cures": ["lab.mail.cure.write('/etc/x', '')"],
}


@pytest.mark.parametrize("kind", ["behaviour", "historic"])
@pytest.mark.parametrize(
    ("withheld", "use"), [(withheld, use) for withheld, uses in USES.items() for use in uses]
)
def test_a_test_of_no_side_must_turn_red_if_something_of_it_was_left_out(
    run: Run, withheld: str, use: str, kind: str
) -> None:
    """The run finds out by itself which tests those are, and counts them."""
    text = f"""
def test_{kind}_weak(lab):
    {use}

def test_{kind}_strong(lab):
    {use}
    assert 0

def test_{kind}_without(lab): pass
"""
    result = run("--withhold", withheld, test_it=text)

    assert result.ret == 1
    assert result.parseoutcomes() == {"failed": 1, "red": 1, "passed": 1}
    result.stdout.fnmatch_lines(
        [
            f"*_ test_{kind}_weak _*",
            "did not fail by its own assertion; passed",
            f"*= {withheld} withheld =*",
            f"{kind}: 1 of 2 turned red, 1 had nothing to withhold",
        ]
    )


def test_a_failure_that_nothing_withheld_explains_is_a_failure(run: Run) -> None:
    """Also its assertion: such a test is not what the run is about."""
    result = run("--withhold", "cures", test_it="def test_behaviour_it(lab): assert 1 == 2\n")

    assert result.ret == 1
    assert result.parseoutcomes() == {"failed": 1}
    result.stdout.fnmatch_lines(["*assert 1 == 2*"])


def test_what_another_test_left_out_does_not_count(run: Run) -> None:
    """Each test has a count of its own."""
    text = "def test_behaviour_a(lab):\n    lab.mail.cure.write('/etc/x', '')\n    assert 0\n"

    result = run("--withhold", "cures", test_it=text + "def test_behaviour_b(lab): pass\n")

    assert result.parseoutcomes() == {"red": 1, "passed": 1}


def test_without_faults_no_witness_is_needed(run: Run) -> None:
    """No fault is set."""
    text = """
class Never:
    def on(self, host): raise RuntimeError("was set")

def test_symptom_it(lab):
    with lab.mail.faulty(Never()), lab.mail.faulty(Noop()):
        assert "the symptom" == "shows"
"""
    result = run("--withhold", "faults", test_it=text)

    assert result.ret == 0
    assert result.parseoutcomes() == {"red": 1}


def test_without_witnesses_each_test_that_has_a_fault_must_be_void(run: Run) -> None:
    """It may pass, fail by its own assertion or time out; other tests may pass."""
    text = """
class Never:
    def on(self, host): raise RuntimeError("was set")

def test_symptom_a(lab):
    with lab.mail.faulty(Never()): pass

def test_behaviour_b(lab):
    with lab.mail.faulty(Never()): assert "the symptom" == "shows"

def test_cure_c(lab):
    with lab.mail.faulty(Never()): lab.stream.wait(bool, within_s=0, what="it")

def test_behaviour_d(lab): pass
"""
    result = run("--withhold", "witnesses", test_it=text)

    assert result.ret == 0
    assert result.parseoutcomes() == {"red": 3, "passed": 1}


def test_an_error_without_the_faults_effect_is_reported(run: Run) -> None:
    """An error of the lab is no verdict."""
    text = """
def test_symptom_it(lab):
    with lab.mail.faulty(Noop()): lab.break_down()
"""
    result = run("--withhold", "witnesses", test_it=text)

    assert result.ret == 1
    result.stdout.fnmatch_lines(["was not void; error: *no such thing"])


def test_a_lab_that_does_not_come_up_is_no_red(run: Run) -> None:
    """An error of set-up does not count."""
    result = run(
        "--withhold",
        "cures",
        refusal="LabError('did not start')",
        test_it="def test_cure_it(lab): assert 0\n",
    )

    assert result.ret == 1
    assert result.parseoutcomes() == {"errors": 1}


def test_red_survives_xdist(run: Run) -> None:
    """So do other outcomes."""
    red, green = "def test_cure_r(lab): assert 0\n", "def test_cure_g(lab): pass\n"

    result = run("-n", "2", "--withhold", "cures", test_a=red, test_b=green)

    assert result.ret == 1
    assert result.parseoutcomes() == {"failed": 1, "red": 1}
    result.stdout.fnmatch_lines(["did not fail by its own assertion; passed"])
