"""Waiting and idleness add up as worked by hand."""

from leeway_rl.learner.flow.idling import Cycle, Idling
from leeway_rl.learner.flow.pacing import Pacer


def test_places_without_a_group_are_idle_and_waiting_is_counted_apart():
    idling = Idling(places=4)
    assert idling.cycle(0.0) is None  # the first ends here, and engines started in it
    idling.waits(0.0, waits=True)
    idling.under_way(4, 0.0)
    idling.under_way(3, 2.0)  # a quarter idle for 4 s
    idling.waits(5.0, waits=False)
    idling.under_way(8, 6.0)  # more than places: nothing is idle
    assert idling.cycle(10.0) == Cycle(10.0, 5.0, 1.0, 0)
    assert idling.cycle(11.0) == Cycle(1.0, 0.0, 0.0, 8)


def test_the_pacer_tells_of_groups_and_of_the_learner():
    pacer = Pacer()
    pacer.idling.places = 2
    for ticket in (0, 1):
        pacer.issued(ticket, 0.0)
        pacer.arrived(ticket, 1.0)
    pacer.handed([0, 1], 1.0)
    pacer.idling.cycle(2.0)
    pacer.asked(2.0)
    pacer.issued(2, 2.0)  # one of two places
    pacer.issued(3, 3.0)  # both
    pacer.arrived(2, 5.0)  # one
    pacer.arrived(3, 6.0)  # none
    pacer.handed([2, 3], 6.0)
    assert pacer.idling.cycle(10.0) == Cycle(8.0, 4.0, 0.5 + 0.5 + 4.0, 0)
