"""The statistics of agents against the tasks that they are about.

`tasks.apply_stats` (migration 6) adds what each statement changes; `tasks.recount_stats` counts all
tasks of an agent. Both must say the same of every agent.
"""

from collections.abc import Sequence

import asyncpg

from penstock.worker.postgres.pool import borrowed

_AT_ONCE = 500


async def wrong(pool: asyncpg.Pool) -> Sequence[str]:
    """The agents whose statistics are not right, at one moment. Raises the driver's errors."""
    return [agent for (agent,) in await pool.fetch("SELECT tasks.wrong_stats()::text")]


async def mend(pool: asyncpg.Pool, agents: Sequence[str]) -> None:
    """Count them again, some in each transaction. Raises the driver's errors."""
    for begin in range(0, len(agents), _AT_ONCE):
        some = agents[begin : begin + _AT_ONCE]
        async with borrowed(pool) as connection:
            await connection.execute("SELECT tasks.recount_stats($1::uuid[])", some)
