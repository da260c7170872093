"""What people say of one episode names the later ones that go the same way, until taken back."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from anomaly_assets.detection.explanation.explain import Mode
from anomaly_assets.detection.explanation.record import anomaly_id
from anomaly_assets.errors import InputError
from anomaly_assets.pipeline.exemplars import LabelledExplainers
from anomaly_assets.pipeline.explain import explain_window, explain_windows
from anomaly_assets.pipeline.labels import judge
from anomaly_assets.storage.identifiers import Verdict
from anomaly_assets.storage.labels import Opinion, undo_label
from anomaly_assets_tests.pipeline.courses import (
    ONSETS,
    OTHER_ONSET,
    WINDOWS,
    at,
    process_day,
)
from anomaly_assets_tests.pipeline.people import execute, query

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from anomaly_assets.pipeline.deployment import Deployment
    from anomaly_assets.storage.database import Database
    from anomaly_assets.storage.labels import Label

FIRST, SECOND, THIRD = (at(onset) for onset in ONSETS)
OTHER = at(OTHER_ONSET)
QUIET = at(6 * 60)
ACTION = "Drink a glass of water."
SAUNA = Opinion(Verdict.CONFIRMED, "Ann", "sauna", "Time in the sauna", ACTION)


class Story:
    """A processed day, its labels and its explanations."""

    def __init__(self, database: Database, deployment: Deployment) -> None:
        self.database = database
        self.deployment = deployment
        self.entity = deployment.entity("ann")

    def label(self, opinion: Opinion, start: datetime, end: datetime | None = None) -> Label:
        """Judge windows of the day."""
        return judge(self.deployment, self.entity, opinion, start, end)

    def undo(self, label: Label) -> None:
        """Take a label back."""
        with self.database.connect() as connection:
            undo_label(connection, label.label_id, "Bob")

    def explain(self, windows: int = len(WINDOWS)) -> None:
        """Explain the day again, so many windows at a time."""
        for part in WINDOWS.parts(windows):
            for _ in explain_windows(self.deployment, [self.entity], part):
                pass
        assert not self.deployment.failures

    def told(self) -> list[tuple[Any, ...]]:
        """Return every stored explanation, to the last bit."""
        return query(
            self.database,
            "SELECT timestamp, primary_cause, recommended_action, confidence, record "
            "FROM causal_explanations ORDER BY timestamp",
        )

    def cause_at(self, time: datetime) -> tuple[str, str, str | None]:
        """Return cause, action and matched course of the episode that holds a time."""
        ((cause, action, match),) = query(
            self.database,
            "SELECT primary_cause, recommended_action, "
            "record -> 'evidence' -> 'matched_sequence' ->> 'template' FROM causal_explanations "
            "WHERE timestamp <= %s AND episode_end > %s",
            time,
            time,
        )
        return cause, action, match


@pytest.fixture(scope="module")
def day(module_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Story:
    """Process the day once."""
    home = tmp_path_factory.mktemp("home")
    return Story(module_database, process_day(module_database, home))


@pytest.fixture
def story(day: Story) -> Iterator[Story]:
    """Return the day without labels, explained without labels."""
    yield day
    execute(day.database, "TRUNCATE labels")
    day.explain()


def test_a_label_names_later_episodes_of_the_same_course(story: Story) -> None:
    """Name, title and action come back; once taken back, every row is what it was before."""
    before = story.told()
    assert story.cause_at(SECOND)[0] != SAUNA.title
    label = story.label(SAUNA, FIRST)
    story.explain()
    for later in (SECOND, THIRD):
        assert story.cause_at(later) == (SAUNA.title, ACTION, "sauna")
    assert story.cause_at(OTHER) == ("Lamp switched on", "Switch the lamp off again.", "lamp")
    after = story.told()
    # The labelled episode itself, and what came before it, know nothing of the label.
    assert [row for row in after if row[0] <= FIRST] == [row for row in before if row[0] <= FIRST]
    story.undo(label)
    story.explain()
    assert story.told() == before


def test_the_cuts_of_a_range_do_not_matter(story: Story) -> None:
    """With labels too, parts of a range leave the rows of the whole."""
    story.label(SAUNA, FIRST)
    story.label(SAUNA, SECOND)
    story.explain()
    whole = story.told()
    story.explain(windows=7)
    assert story.told() == whole


def test_no_episode_is_explained_by_what_was_said_of_later_ones(story: Story) -> None:
    """A label of the last episode, or of one that goes on, changes nothing before its end."""
    before = story.told()
    story.label(SAUNA, THIRD)
    story.explain()
    assert story.told() == before


@pytest.mark.parametrize("verdict", [Verdict.FALSE_ALARM, Verdict.EXPECTED])
def test_what_is_no_anomaly_is_no_exemplar(story: Story, verdict: Verdict) -> None:
    """False alarms and expected happenings may have a cause, and explain nothing."""
    before = story.told()
    label = story.label(Opinion(verdict, "Ann", "sauna", "Time in the sauna", ACTION), FIRST)
    assert (label.cause, label.events) == ("sauna", None)
    story.explain()
    assert story.told() == before


def test_a_window_on_demand_knows_the_labels_before_it(story: Story) -> None:
    """Both modes name the cause of a window after the label's end, and not of one before."""
    story.label(SAUNA, FIRST, FIRST + timedelta(minutes=9))
    for mode in Mode:
        explain = [
            explain_window(story.deployment, story.entity, time, mode=mode)
            for time in (FIRST + timedelta(minutes=4), SECOND + timedelta(minutes=4))
        ]
        assert [one.primary_cause == SAUNA.title for one in explain] == [False, True]
        assert explain[1].recommended_action == ACTION


def test_an_explainer_lasts_until_the_next_label(story: Story) -> None:
    """Only a label that ends in between makes another one."""
    story.label(SAUNA, FIRST)
    story.label(SAUNA, SECOND)
    with story.database.connect() as connection:
        explainers = LabelledExplainers(connection, story.entity, WINDOWS.end, Mode.FAST)
        knowing_none = LabelledExplainers(connection, story.entity, WINDOWS.start, Mode.FAST)
    start = int(FIRST.timestamp())
    none = explainers.before(start)
    assert explainers.before(start + 60) is none
    first = explainers.before(start + 3600)
    assert first is not none
    assert explainers.before(int(SECOND.timestamp())) is first
    assert explainers.before(WINDOWS.end) is not first
    assert knowing_none.before(WINDOWS.end) is knowing_none.before(WINDOWS.start)


def test_without_an_end_the_episode_is_meant(story: Story) -> None:
    """Any window of an episode stands for all of it; where there is none, for itself."""
    label = story.label(Opinion(Verdict.CONFIRMED, "Ann"), FIRST + timedelta(minutes=6))
    ((start, end),) = query(
        story.database,
        "SELECT timestamp, episode_end FROM causal_explanations WHERE anomaly_id::text = %s",
        label.anomaly_id,
    )
    assert (label.start_time, label.end_time) == (start, end)
    assert label.anomaly_id == anomaly_id("ann", int(start.timestamp()))
    quiet = story.label(Opinion(Verdict.EXPECTED, "Ann"), QUIET + timedelta(minutes=3))
    assert (quiet.start_time, quiet.end_time) == (QUIET, QUIET + timedelta(minutes=5))
    assert quiet.anomaly_id is None


def test_a_range_is_that_of_whole_windows(story: Story) -> None:
    """Windows that a range only touches belong to it; the episode in it is remembered."""
    label = story.label(
        Opinion(Verdict.CONFIRMED, "Ann"),
        FIRST - timedelta(minutes=2),
        FIRST + timedelta(minutes=16),
    )
    midday = FIRST.replace(minute=0)
    assert (label.start_time, label.end_time) == (
        midday - timedelta(minutes=5),
        midday + timedelta(minutes=20),
    )
    assert label.anomaly_id is not None


def test_the_course_is_what_the_explanation_tells(story: Story) -> None:
    """Each stream's event stands at the minute at which the explanation of the window has it."""
    label = story.label(SAUNA, FIRST)
    assert label.events is not None
    ((record,),) = query(
        story.database,
        "SELECT record FROM causal_explanations WHERE anomaly_id::text = %s",
        label.anomaly_id,
    )
    told = record["temporal_sequence"]
    minutes = [int(entry["local_time"][-2:]) for entry in told]
    assert [entry["event"] for entry in told] == ["humidity_up", "warmth_up", "pulse_up"]
    own = dict(label.events)
    assert [own[entry["event"]] for entry in told] == [m - minutes[0] for m in minutes]


def test_what_nobody_noticed_can_be_named_too(story: Story) -> None:
    """A range without an anomalous window is seen as a whole."""
    label = story.label(SAUNA, FIRST + timedelta(minutes=9), FIRST + timedelta(minutes=19))
    assert label.anomaly_id is None
    assert label.events is not None
    assert {"humidity_up", "warmth_up", "pulse_up"} <= {event for event, _ in label.events}


def test_where_nothing_happened_nothing_can_be_named(story: Story) -> None:
    """It is said at once, and nothing is stored; a verdict without a cause is welcome."""
    calm = at(6 * 60 + 40)
    with pytest.raises(InputError, match="nothing happened"):
        story.label(SAUNA, calm)
    assert query(story.database, "SELECT count(*) FROM labels") == [(0,)]
    assert story.label(Opinion(Verdict.CONFIRMED, "Ann"), calm).events is None


def test_a_template_keeps_its_own_words(story: Story) -> None:
    """A label of a template's name adds to it, and cannot rename it."""
    label = story.label(Opinion(Verdict.CONFIRMED, "Ann", "lamp"), OTHER)
    assert (label.title, label.recommended_action) == (
        "Lamp switched on",
        "Switch the lamp off again.",
    )
    with pytest.raises(InputError, match="is a template of catalogue 'bath'"):
        story.label(Opinion(Verdict.CONFIRMED, "Ann", "lamp", "Light on"), FIRST)


def test_a_known_cause_needs_no_words_and_new_words_hold(story: Story) -> None:
    """The second label of a cause takes the words of the first; the newest words are shown."""
    with pytest.raises(InputError, match="'sauna' is new for entity 'ann'"):
        story.label(Opinion(Verdict.CONFIRMED, "Ann", "sauna"), FIRST)
    plain = story.label(
        Opinion(Verdict.CONFIRMED, "Ann", "sauna", recommended_action=ACTION), FIRST
    )
    assert plain.title == "Sauna"
    again = story.label(Opinion(Verdict.CONFIRMED, "Bob", "sauna", "Steam bath"), SECOND)
    assert (again.title, again.recommended_action) == ("Steam bath", ACTION)
    story.explain()
    assert story.cause_at(SECOND) == ("Sauna", ACTION, "sauna")
    assert story.cause_at(THIRD) == ("Steam bath", ACTION, "sauna")


def test_ranges_that_cannot_be_judged_are_refused(story: Story) -> None:
    """A range that ends first, or was never processed, is a clear error."""
    opinion = Opinion(Verdict.EXPECTED, "Ann")
    with pytest.raises(InputError, match=r"cannot end at .*T11:00"):
        story.label(opinion, FIRST, at(11 * 60))
    with pytest.raises(InputError, match="has not been processed"):
        story.label(opinion, WINDOWS.end_time)
    with pytest.raises(InputError, match="has not been processed"):
        story.label(opinion, WINDOWS.start_time - timedelta(days=1))
