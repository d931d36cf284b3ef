"""Administration whose answer is lost: asked again, it is not taken for somebody else's."""

from __future__ import annotations

import pytest

from streambus_client.errors import TopicExistsError, TopicNotFoundError
from streambus_protocol import ApiKey
from tests.client.both import SHELLS, Shell, ready, run_on
from tests.client.test_idempotence import SwallowingProxy, proxied

__all__ = ["proxied"]  # the fixture


@pytest.mark.parametrize("shell", SHELLS)
def test_changes_of_topics_whose_answer_was_lost_are_made_once(
    shell: str, proxied: tuple[SwallowingProxy, str]
) -> None:
    proxy, address = proxied

    async def scenario(shell: Shell) -> None:
        async with shell.admin(address) as admin:
            proxy.doomed = {ApiKey.CREATE_TOPICS}
            await ready(admin.create_topic("t", partitions=2))
            assert proxy.swallowed == 1
            with pytest.raises(TopicExistsError):
                await ready(admin.create_topic("t", partitions=2))
            proxy.doomed = {ApiKey.ALTER_TOPICS}
            await ready(admin.alter_topic("t", partitions=3, config={"retention_ms": 1000}))
            assert proxy.swallowed == 2
            found = await ready(admin.describe_topic("t"))
            assert (len(found.partitions), found.config["retention_ms"]) == (3, "1000")
            proxy.doomed = {ApiKey.CREATE_TOPICS}
            with pytest.raises(TopicExistsError):  # its own attempt made nothing
                await ready(admin.create_topic("t"))
            proxy.doomed = {ApiKey.DELETE_TOPICS}
            await ready(admin.delete_topic("t"))
            assert proxy.swallowed == 4
            with pytest.raises(TopicNotFoundError):
                await ready(admin.delete_topic("t"))
            assert await ready(admin.list_topics()) == []

    run_on(shell, scenario)
