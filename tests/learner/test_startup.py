"""The books of a run that goes on, from checkpoints of this Leeway and of older ones."""

from leeway_rl.common.config import compose
from leeway_rl.learner.startup import make_book

STATE = {
    "version": 3,
    "next_ticket": 9,
    "live": {"7": 0, "8": 0},
    "max_staleness": 1,
    "overflow": "wait",
    "pipeline_depth": "auto",
}


def test_live_tickets_ask_again_what_the_checkpoint_says_and_draw_where_an_older_one_says_nothing():
    config = compose(["tiny"], [])
    book = make_book(config, STATE | {"asked": {"7": "rows:5", "8": "rows:2"}})
    assert {number: group.asks for number, group in book.live.items()} == {7: "rows:5", 8: "rows:2"}
    assert {number: group.asks for number, group in make_book(config, STATE).live.items()} == {7: None, 8: None}
