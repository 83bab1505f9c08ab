"""Where a run stands in a source without offsets, whatever part of a piece is settled first."""

import random

from penstock.worker.replay.standing import Piece, Place, Standing


def place(number: int) -> Place:
    return "agents.log", f"{number:04}", "2026-01-01T00:00:00+00:00"


def test_nothing_that_is_not_settled_is_ever_behind_the_mark() -> None:
    rng = random.Random(3)
    for _ in range(300):
        standing, settled = Standing(), set[Place]()
        for first in (0, 10, 20):
            piece = Piece([place(n) for n in range(first, first + 10)])
            unwanted = rng.sample(sorted(piece.left), rng.randrange(3))
            piece.left.difference_update(unwanted)
            left = rng.sample(sorted(piece.left), len(piece.left))
            while left:
                part, left = left[: (size := rng.randint(1, 4))], left[size:]
                standing = standing.after(part, piece)
                settled.update(part)
                if rng.random() < 0.5:  # an acknowledgement may come late, or never
                    piece.left.difference_update(part)
                wanted = {place(n) for n in range(first + 10)} - {*unwanted}
                known = {one for one in wanted if one in standing}
                assert known >= settled & wanted
                assert not {one for one in left if one in standing}
            assert standing == Standing(piece.end)
            settled.update(unwanted)


def test_what_was_settled_of_a_larger_piece_stays_so() -> None:
    """A later process may read smaller pieces."""
    large = Piece([place(n) for n in range(20)])
    standing = Standing().after([place(n) for n in (0, 1, 3, 12, 19)], large)
    assert standing.mark == place(1)
    small = Piece([place(n) for n in range(2, 7)])
    small.left.discard(place(3))
    standing = standing.after([place(n) for n in (2, 4, 5, 6)], small)
    assert standing.mark == place(6)
    assert set(standing.beyond) == {place(12), place(19)}
    assert place(7) not in standing
