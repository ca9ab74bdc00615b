from __future__ import annotations

import pytest

from nexus.cli.prompts import track_prompts
from nexus.core.errors import InputError
from nexus.predict.tracking.object_prompts import join_prompts


def test_prompts_are_put_together_by_frame_and_object() -> None:
    """Points join the box of their object on their frame; the order is that of frames, then ids."""
    prompts = join_prompts(
        track_prompts(
            ["2:1,2,3,4@1", "1:1,2,3,4"], ["2:5,6@1", "2:7,8,0@1", "2:9,9,1"], ["3:a:b@c.png@10"]
        )
    )

    assert [prompt.as_json() for prompt in prompts] == [
        {"frame": 0, "object": 1, "box": [1, 2, 3, 4]},
        {"frame": 0, "object": 2, "points": [[9, 9]], "labels": [1]},
        {
            "frame": 1,
            "object": 2,
            "points": [[5, 6], [7, 8]],
            "labels": [1, 0],
            "box": [1, 2, 3, 4],
        },
        {"frame": 10, "object": 3, "mask": "a:b@c.png"},
    ]
    assert prompts[0].arguments() == {"frame_index": 0, "object_id": 1, "box": [1, 2, 3, 4]}


@pytest.mark.parametrize("text", ["1,2,3,4", "x:1,2,3,4", "0:1,2,3,4", "-1:1,2,3,4", "1:", "1:@3"])
def test_a_prompt_without_an_objects_number_is_refused(text: str) -> None:
    """The message has the form that was expected, and the hint says what ID is."""
    with pytest.raises(InputError, match=r"expected --box ID:x0,y0,x1,y1 (?s:.)*hint: ID is your"):
        list(track_prompts([text], [], []))


@pytest.mark.parametrize(
    ("boxes", "points"),
    [(["1:1,2,3"], []), (["1:1,2,3,4@x"], []), ([], ["1:1"]), ([], ["1:1 2"])],
)
def test_numbers_that_are_none_are_refused(boxes: list[str], points: list[str]) -> None:
    """The message shows the whole prompt."""
    with pytest.raises(InputError, match=r"expected --(box|point) ID:.*got '1:.*'(?s:.)*commas"):
        list(track_prompts(boxes, points, []))
