"""What is kept of a device's MDIB: the newest of everything, whatever is lost, doubled or overtaken."""

from __future__ import annotations

import sdc_text as text
from hypothesis import given
from hypothesis import strategies as st

from edgeward.bedside.source.sdc_mdib import CONTEXTS_MAX, Mdib, Need
from edgeward.wire.sdc import NumericState, decode

DESCRIPTION = text.mds(text.metric("hr", "147842", "264864") + text.metric("rr", "151562", "264928"))


def _loaded(states: str = "", number: int = 1) -> Mdib:
    mdib = Mdib()
    mdib.load([decode(text.mdib(DESCRIPTION, states, number))])
    return mdib


def _metric(version: int, value: str = "70", number: int = 9, **options: int | str) -> bytes:
    return text.report("EpisodicMetricReport", text.numeric("hr", value, version=version, **options), number)  # type: ignore[arg-type]


def test_a_state_is_taken_when_it_is_newer() -> None:
    """Doubled and overtaken reports change nothing; versions that never came are counted."""
    mdib = _loaded(text.numeric("hr", "60", version=4, tag="pm:State"))
    assert mdib.report(decode(_metric(4, "60"))).states == ()
    assert mdib.report(decode(_metric(3, "99"))).states == ()
    taken = mdib.report(decode(_metric(7)))
    (state,) = taken.states
    assert isinstance(state, NumericState)
    assert (state.value, taken.skipped, taken.need) == (70.0, 2, Need.NOTHING)


def test_a_device_that_forgets_to_count_is_heard() -> None:
    """The same version with another content is news."""
    mdib = _loaded(text.numeric("hr", "60", version=4, tag="pm:State"))
    assert len(mdib.report(decode(_metric(4, "61"))).states) == 1


def test_reports_before_the_mdib_wait_for_it() -> None:
    """What it already holds is not taken again; what is newer is."""
    mdib = Mdib()
    mdib.ask()
    assert mdib.report(decode(_metric(5, "50", number=5))).states == ()
    mdib.report(decode(_metric(6, "60", number=6)))
    mdib.report(decode(_metric(7, "70", number=7)))
    taken = mdib.load([decode(text.mdib(DESCRIPTION, text.numeric("hr", "60", version=6, tag="pm:State"), 6))])
    assert [state.value for state in taken.states if isinstance(state, NumericState)] == [70.0]
    assert taken.need is Need.NOTHING


def test_a_patient_who_came_while_the_mdib_was_on_its_way_stays() -> None:
    """An older snapshot never brings back whoever was there before."""
    mdib = _loaded(text.patient("a", tag="pm:State", extension="A"))
    mdib.ask()
    gone = text.patient("a", "Dis", version=1, extension="A")
    mdib.report(decode(text.report("EpisodicContextReport", gone + text.patient("b", extension="B"), 3)))
    assert [one.handle for one in mdib.patients("mds")] == ["b"]
    mdib.load([decode(text.mdib(DESCRIPTION, text.patient("a", tag="pm:State", extension="A"), 2))])
    assert [one.handle for one in mdib.patients("mds")] == ["b"]


def test_another_run_needs_a_fresh_connection() -> None:
    """Nothing of it is read with what is known of the run before."""
    taken = _loaded().report(decode(text.report("EpisodicMetricReport", text.numeric("hr", "70"), 1, "urn:uuid:2")))
    assert (taken.states, taken.need) == ((), Need.RECONNECT)


def test_what_the_description_does_not_cover_needs_a_fresh_one() -> None:
    """A changed description, a state for another version of a descriptor, and an unknown descriptor."""
    mdib = _loaded()
    assert mdib.report(decode(text.report("DescriptionModificationReport", ""))).need is Need.RELOAD
    changed = mdib.report(decode(_metric(2, descriptor=1)))
    assert (changed.states, changed.refused, changed.need) == ((), 1, Need.RELOAD)
    unknown = mdib.report(decode(text.report("EpisodicMetricReport", text.numeric("x", "1") + text.numeric("hr", "7"))))
    assert (len(unknown.states), unknown.refused, unknown.need) == (1, 1, Need.RELOAD)


def test_a_silent_subscription_is_seen_by_the_second_question() -> None:
    """A state that one answer showed must have been reported by the next; a report that is on its way is no silence."""
    mdib = _loaded(text.numeric("hr", "60", version=1, tag="pm:State"))

    def ask(version: int) -> bool:
        answer = text.md_state(text.numeric("hr", "70", version=version, tag="pm:State"), 9)
        return mdib.poll(decode(answer))[1]

    assert not ask(2)
    mdib.report(decode(_metric(2, "70")))
    assert not ask(3)
    mdib.report(decode(text.report("EpisodicMetricReport", text.numeric("rr", "14"), 9)))
    assert not ask(4)  # what is reported at all may leave single states to be asked for
    assert ask(5)


def test_an_answer_brings_what_no_report_brought() -> None:
    """The state is fresh once, from whichever message."""
    mdib = _loaded()
    answer = decode(text.md_state(text.numeric("hr", "70", version=2, tag="pm:State"), 9))
    assert len(mdib.poll(answer)[0].states) == 1
    assert mdib.report(decode(_metric(2))).states == ()


def test_contexts_are_of_their_own_system() -> None:
    """One provider with two systems: what is said of one does not touch the other."""
    two = text.mds(text.metric("hr", "147842", "264864")) + text.mds("", "mds2", "2")
    mdib = Mdib()
    mdib.load([decode(text.mdib(two))])
    taken = mdib.report(decode(text.report("EpisodicContextReport", text.patient("a", descriptor="pc2"))))
    assert taken.contexts == {"mds2"}
    assert mdib.patients("mds") == ()
    assert len(mdib.patients("mds2")) == 1
    both = text.location("l", "1") + text.location("m", "2")
    mdib.report(decode(text.report("EpisodicContextReport", both)))
    assert mdib.location("mds") is None


def test_contexts_from_a_second_answer_are_taken() -> None:
    """Devices may leave contexts out of the MDIB and give them when asked for them."""
    mdib = Mdib()
    contexts = text.envelope(
        '<msg:GetContextStatesResponse SequenceId="urn:uuid:1">' + text.patient("a") + "</msg:GetContextStatesResponse>"
    )
    taken = mdib.load([decode(text.mdib(DESCRIPTION)), decode(contexts)])
    assert taken.contexts == {"mds"}
    assert len(mdib.patients("mds")) == 1


@given(st.lists(st.integers(0, 30), max_size=60))
def test_versions_never_go_back(versions: list[int]) -> None:
    """Whatever the order, the value kept is that of the highest version seen."""
    mdib = _loaded()
    for version in versions:
        mdib.report(decode(_metric(version, str(version))))
    newest = [s.value for s in mdib._states.values() if isinstance(s, NumericState)]
    assert newest == ([float(max(versions))] if versions else [])


def test_years_of_patients_do_not_fill_the_memory() -> None:
    """Of contexts that ended, the oldest are forgotten; who is associated is not."""
    mdib = _loaded(text.patient("now", tag="pm:State"))
    for number in range(CONTEXTS_MAX + 50):
        mdib.report(decode(text.report("EpisodicContextReport", text.patient(f"old{number}", "Dis"), number)))
    assert len(mdib._states) <= CONTEXTS_MAX
    assert [one.handle for one in mdib.patients("mds")] == ["now"]
