"""The figures of Annex B on cases counted by hand, and the label format."""

from __future__ import annotations

import pytest

from curation.errors import UsageError
from curation.privacy import annex_b
from curation.privacy.annex_b import Figures, figures, judge, rate, result
from curation.privacy.labels import Label, Sample, half, parse
from curation.records import Detection


def _label(kind: str, x_px: float, y_px: float, side_px: float) -> Label:
    return Label(kind=kind, x_px=x_px, y_px=y_px, width_px=side_px, height_px=side_px)  # type: ignore[arg-type]


def _found(x_px: float, y_px: float, side_px: float, score: float = 0.9) -> Detection:
    return Detection(x_px=x_px, y_px=y_px, width_px=side_px, height_px=side_px, score=score)


def _judged(labels: list[Label], found: list[Detection], kind: str = "face") -> annex_b.Outcome:
    sample = Sample(file="a.jpg", at_s=None, labels=tuple(labels))
    return judge(sample, found, kind, min_score=0.5, width_px=1000, height_px=1000)  # type: ignore[arg-type]


def test_the_interval_is_that_of_clopper_and_pearson() -> None:
    """Against values of their own table (0 of 10, 10 of 10) and of R's binom.test (34 of 40, 180 of 200)."""
    assert (0.0, pytest.approx(0.3085, abs=1e-4)) == (rate(0, 10).low, rate(0, 10).high)
    assert (pytest.approx(0.6915, abs=1e-4), 1.0) == (rate(10, 10).low, rate(10, 10).high)
    assert (pytest.approx(0.7016, abs=1e-4), pytest.approx(0.9429, abs=1e-4)) == (rate(34, 40).low, rate(34, 40).high)
    assert (pytest.approx(0.8498, abs=1e-4), pytest.approx(0.9378, abs=1e-4)) == (rate(180, 200).low, rate(180, 200).high)
    assert (None, 0.0, 1.0) == (rate(0, 0).value, rate(0, 0).low, rate(0, 0).high)


def test_an_object_counts_once_half_of_it_lies_under_a_mask() -> None:
    """A mask is 1.3 times the box; half covered counts, less does not, and the miss says how much was covered."""
    label = _label("face", 100, 100, 40)
    assert 1 == _judged([label], [_found(100, 100, 40)]).covered
    assert 1 == _judged([label], [_found(120, 100, 40)]).covered  # a mask from 114 to 166 covers 26 of 40
    missed = _judged([label], [_found(130, 100, 40)])  # from 124: 16 of 40
    assert (0, ("the masks cover 40% of it",)) == (missed.covered, tuple(one.why for one in missed.missed))


def test_what_was_missed_says_why() -> None:
    """Seen below the threshold, or not seen at all."""
    label = _label("face", 100, 100, 40)
    assert ["seen with score 0.30, masked from 0.50"] == [one.why for one in _judged([label], [_found(100, 100, 40, 0.3)]).missed]
    assert ["not seen, even at score 0.05"] == [one.why for one in _judged([label], [_found(400, 400, 40, 0.3)]).missed]


def test_objects_below_the_standards_size_count_neither_way() -> None:
    """A face of 31 px and a plate of 15 px are told apart from those that count; of a plate 16 px are enough."""
    small = _judged([_label("face", 100, 100, 31), _label("face", 300, 300, 32)], [_found(100, 100, 31)])
    assert (0, 1, 1, 1) == (small.covered, small.total, small.covered_small, small.total_small)
    plate = _judged([_label("plate", 100, 100, 16), _label("plate", 300, 300, 15)], [], kind="plate")
    assert (1, 1) == (plate.total, plate.total_small)


def test_a_detection_is_false_where_it_meets_no_label() -> None:
    """One on a label or on something nobody can tell is not; a mask over everything is; a small one counts apart."""
    labels = [_label("face", 100, 100, 40), _label("ignore", 300, 300, 40), _label("plate", 500, 500, 40)]
    fair = _judged(labels, [_found(105, 100, 40), _found(300, 300, 40)])
    assert (0, 2) == (fair.false, fair.found)
    wrong = _judged(labels, [_found(500, 500, 40), _found(0, 0, 900), _found(700, 700, 20)])
    assert (2, 2, 1, 1) == (wrong.false, wrong.found, wrong.unlabelled_small, wrong.found_small)


def _figures(kind: str, covered: int, total: int, false: int = 0, found: int = 200) -> Figures:
    return Figures(
        kind=kind,  # type: ignore[arg-type]
        detection=rate(covered, total),
        false=rate(false, found),
        small=rate(0, 0),
        unlabelled_small=rate(0, 0),
        missed=(),
    )


def _samples(count: int) -> list[Sample]:
    return [Sample(file=f"{number}.jpg", at_s=None, labels=()) for number in range(count)]


@pytest.mark.parametrize(
    ("face", "plate", "samples", "expected"),
    [
        (_figures("face", 290, 300), _figures("plate", 195, 200), 500, "passed"),
        (_figures("face", 290, 300), _figures("plate", 179, 200), 500, "failed"),  # 89.5 %
        (_figures("face", 290, 300, false=21), _figures("plate", 195, 200), 500, "failed"),  # 10.5 % false
        (_figures("face", 290, 300), _figures("plate", 182, 200), 500, "insufficient"),  # 91 %, from 86.2 %
        (_figures("face", 290, 300), _figures("plate", 195, 200), 499, "insufficient"),
        (_figures("face", 199, 199), _figures("plate", 195, 200), 500, "insufficient"),
        (_figures("face", 0, 0), _figures("plate", 195, 200), 500, "insufficient"),
        (_figures("face", 10, 100), _figures("plate", 195, 200), 500, "insufficient"),  # whatever was found, it is too few to tell
    ],
)
def test_the_result_asks_for_enough_objects_and_for_a_sure_rate(face: Figures, plate: Figures, samples: int, expected: str) -> None:
    """500 pictures, 200 of each kind, an interval above 90 %, at most 10 % false; everything else has a reason in two languages."""
    found, reasons = result([face, plate], _samples(samples))
    assert expected == found
    assert (expected == "passed") == (reasons == ())
    assert all(english and chinese for english, chinese in reasons)


def test_frames_of_one_video_must_lie_two_seconds_apart() -> None:
    """The standard samples video at most every two seconds; frames that are nearer show the same again."""
    near = [*_samples(500), *(Sample(file="v.mp4", at_s=at_s, labels=()) for at_s in (0.0, 2.0, 3.9))]
    found, reasons = result([_figures("face", 290, 300), _figures("plate", 195, 200)], near)
    assert ("insufficient", "v.mp4: sampled frames lie less than 2 s apart") == (found, reasons[0][0])


def test_figures_add_up_over_samples() -> None:
    """Counts of all samples are one rate, not a mean of rates."""
    label = _label("face", 100, 100, 40)
    total = figures("face", [_judged([label], [_found(100, 100, 40)]), _judged([label, _label("face", 500, 500, 40)], [])])
    assert (1, 3, 2) == (total.detection.count, total.detection.total, len(total.missed))


def test_labels_are_read_by_file_and_time() -> None:
    """Columns beyond the six are passed over; `none` lists a picture without anything; a time makes it a frame."""
    data = b"file,kind,x,y,w,h,source\nb.jpg,face,1,2,30,40,x\na.mp4,plate,1,2,3,4,\nc.jpg,none,,,,,\nb.jpg,ignore,5,5,9,9,\n"
    samples = parse(data, subject="labels")
    assert [("a.mp4", 1), ("b.jpg", 2), ("c.jpg", 0)] == [(one.file, len(one.labels)) for one in samples]
    timed = parse(b"file,kind,x,y,w,h,at_s\nv.mp4,face,1,2,30,40,2.5\nv.mp4,none,,,,,0\n", subject="labels")
    assert [0.0, 2.5] == [one.at_s for one in timed]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (b"file,kind,x,y,w\n", "lists nothing"),
        (b"file,kind,x,y,w\na,face,1,2,3\n", "has no column h"),
        (b"file,kind,x,y,w,h\na,head,1,2,3,4\n", "line 2: kind must be one of"),
        (b"file,kind,x,y,w,h\na,face,1,2,3,4\na,face,1,two,3,4\n", "line 3: y must be a number"),
        (b"file,kind,x,y,w,h\na,face,1,2,nan,4\n", "line 2: w must be a number"),
        (b"file,kind,x,y,w,h\na,face,1,2,0,4\n", "line 2: w and h must be above 0"),
        (b"file,kind,x,y,w,h\n../a,face,1,2,3,4\n", "line 2: file must lie below the folder"),
        (b"file,kind,x,y,w,h\n/a,face,1,2,3,4\n", "line 2: file must lie below the folder"),
        (b"\xff\xfe", "is no CSV in UTF-8"),
    ],
)
def test_labels_that_are_none_name_the_line(rows: bytes, told: str) -> None:
    """Each malformed file is refused with what is wrong with it."""
    with pytest.raises(UsageError, match=told):
        parse(rows, subject="labels")


def test_halves_go_by_the_bytes() -> None:
    """A file's half depends on nothing but its bytes; both halves are used."""
    halves = [half(bytes([number])) for number in range(64)]
    assert {"tune", "report"} == set(halves)
    assert halves == [half(bytes([number])) for number in range(64)]
