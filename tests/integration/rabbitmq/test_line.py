"""The connection for receipts and reads comes back, whatever kept it away."""

from ssl import SSLContext

import aiormq

from penstock.worker.errors import SettingsError
from penstock.worker.rabbitmq.line import AnswerLine
from penstock.worker.rabbitmq.options import RabbitOptions
from tests.support.waiting import until


class Renewed(RabbitOptions, frozen=True, kw_only=True):
    """Their files are missing for a moment, as while certificates are renewed."""

    asked: list[str]

    def tls(self) -> SSLContext | None:
        self.asked.append("")
        if 1 < len(self.asked) < 4:
            raise SettingsError("rabbitmq_tls_ca: there is no such file")
        return super().tls()


async def test_a_file_that_is_missing_for_a_moment_is_waited_for(rabbit_url: str) -> None:
    options = Renewed(url=rabbit_url, asked=[])
    async with AnswerLine(options, "test") as line:
        assert line.send([])
        connection = line._connection
        assert isinstance(connection, aiormq.Connection)
        await connection.close()
        await until(lambda: len(options.asked) == 4 and line.send([]))
