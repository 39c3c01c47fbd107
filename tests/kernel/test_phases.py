"""Which inputs an output of a transposed convolution sees, against the definition: every input adds to every output
that a tap reaches."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from etexport.kernel.phases import Phases

_SMALL = st.integers(1, 6)


@st.composite
def phases(draw: st.DrawFn) -> Phases:
    size, kernel, stride, dilation = (draw(_SMALL) for _ in range(4))
    reach = (size - 1) * stride + dilation * (kernel - 1) + 1
    before, more = draw(st.integers(0, (reach - 1) // 2)), draw(st.integers(0, max(stride, dilation) - 1))
    return Phases(size, kernel, stride, dilation, before, reach - 2 * before + more)


@given(phases())
def test_every_output_sees_what_reaches_it(axis: Phases) -> None:
    for out in range(axis.out):
        taps = axis.taps[out % axis.count]
        seen = {(axis.first(out) + at * axis.back, tap) for at, tap in enumerate(taps)}
        reaching = {
            (place, tap)
            for place in range(axis.size)
            for tap in range(axis.kernel)
            if place * axis.stride + tap * axis.dilation - axis.before == out
        }
        assert reaching == {(place, tap) for place, tap in seen if 0 <= place < axis.size}


@given(phases())
def test_windows_end_with_the_last_input_seen(axis: Phases) -> None:
    assert len(axis.firsts) == axis.out and axis.most >= 1
    for out, first in enumerate(axis.firsts):
        count = len(axis.taps[out % axis.count])
        window = [first + at * axis.back for at in range(axis.most)]
        assert window[axis.most - count :] == [axis.first(out) + at * axis.back for at in range(count)]


@given(phases())
def test_phases_are_convolutions_of_stride_one(axis: Phases) -> None:
    for out in range(axis.out):
        phase, position = out % axis.count, out // axis.count
        if axis.taps[phase]:
            assert axis.first(out) == axis.lefts[phase] + position


@given(phases())
def test_pixels_outside_are_kept_where_one_is_seen(axis: Phases) -> None:
    places = {
        axis.first(out) + at * axis.back for out in range(axis.out) for at in range(len(axis.taps[out % axis.count]))
    }
    assert axis.reaches_outside == any(not 0 <= place < axis.size for place in places)
