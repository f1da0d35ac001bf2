import numpy as np
import pytest

from atomreel.core.errors import InputError
from atomreel.read.times import frame_times


def write(tmp_path, text):
    path = tmp_path / "times.csv"
    path.write_text(text)
    return path


def test_a_csv_in_any_order_with_pauses(tmp_path):
    path = write(tmp_path, "note, frame, time_s\na,2,7.5\nb,0,0.5\nc,1,1.0\nd,9,99\n")
    np.testing.assert_array_equal(frame_times(path, 3), [0.5, 1.0, 7.5])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("frame,time_s\n0,0\n2,1\n", "no time for 1 of 3 frames \\(1\\)"),
        ("frame,recorded_frame\n0,2\n", "no column time_s .*recorded_frame"),
        ("frame,time_s\n0,0\n1,x\n2,3\n", "row 3 is not two numbers"),
        ("frame,time_s\n0,0\n1,1\n1,2\n2,3\n", "frame 1 has two times"),
        ("frame,time_s\n0,0\n1,5\n2,4\n", "does not increase from frame 1"),
        ("frame,time_s\n0,0\n1,inf\n2,4\n", "not finite"),
        ("", "not a CSV table"),
        ("\x00\x01\x02", "times.csv"),
    ],
)
def test_a_bad_csv_says_what_is_wrong(tmp_path, text, says):
    with pytest.raises(InputError, match=says):
        frame_times(write(tmp_path, text), 3)


def test_arrays_are_checked_too(tmp_path):
    np.testing.assert_array_equal(frame_times([1, 2], 2), [1.0, 2.0])
    with pytest.raises(InputError, match="one number per frame"):
        frame_times([1, 2, 3], 2)
    with pytest.raises(InputError, match="numbers are needed"):
        frame_times(["a", "b"], 2)
    with pytest.raises(InputError, match="cannot be opened"):
        frame_times(tmp_path / "absent.csv", 2)
