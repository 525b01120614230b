"""What a caller of `mounted` sees of the node actor's troubles. The actor is a stand-in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from actors import ray_port
from actors.handles import mounting
from actors.handles.errors import ConflictError, FailedError, HandleError, RefusedError, UnreachableError
from actors.handles.mounting import Claim, mount, unmount
from actors.names import CONDUCTOR
from cluster.errors import UnavailableError
from drivers.vocabulary import BackendUnavailableError
from tests.unit.handles.conftest import Near

NODE = "pumice-node-n1"


class Cluster:
    """`answers[method]` is what the calls of `method` come to, one after the other; the last one again and again."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Any]] = {}
        self.calls: list[tuple[str, str]] = []

    async def call(self, actor: str, method: str, *_args: Any, timeout_seconds: float) -> Any:
        assert timeout_seconds > 0
        self.calls.append((actor, method))
        answers = self.answers.get(method, [None])
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    cluster = Cluster()
    monkeypatch.setattr(ray_port, "call", cluster.call)
    monkeypatch.setattr(ray_port, "connected", lambda: True)
    monkeypatch.setattr(ray_port, "own_node_id", lambda: "n1")
    monkeypatch.setattr(mounting, "_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(mounting, "MOUNT_SECONDS", 0.05)
    return cluster


@pytest.fixture
def session(near: Near) -> Any:
    return near.client()._session


async def test_a_node_without_its_actor_gets_one_from_the_conductor(there: Cluster, session: Any) -> None:
    there.answers["mount"] = [ray_port.NotSentError("there is no actor"), "/mounted"]
    claim = await mount(session, "v", "rw", "ext4")
    assert (claim.actor, claim.path) == (NODE, Path("/mounted"))
    assert there.calls == [(NODE, "mount"), (CONDUCTOR, "start_node_actor"), (NODE, "mount")]


async def test_a_conductor_that_is_away_is_asked_again(there: Cluster, session: Any) -> None:
    away = ray_port.NotSentError("there is no actor")
    there.answers = {
        "mount": [away, away, "/mounted"],
        "start_node_actor": [ray_port.OutcomeUnknownError("away"), None],
    }
    await mount(session, "v", "rw", "ext4")
    assert [method for _, method in there.calls].count("start_node_actor") == 2


async def test_an_actor_that_went_away_is_asked_to_release_what_it_may_have_mounted(
    there: Cluster, session: Any
) -> None:
    there.answers["mount"] = [ray_port.OutcomeUnknownError("it died"), "/mounted"]
    await mount(session, "v", "rw", "ext4")
    assert [method for _, method in there.calls] == ["mount", "unmount", "mount"]


async def test_a_mount_that_never_comes_says_what_to_look_at(there: Cluster, session: Any) -> None:
    there.answers["mount"] = [ray_port.NotSentError("there is no actor")]
    with pytest.raises(UnreachableError, match=r"volume v was not mounted within .*`pumice status`"):
        await mount(session, "v", "rw", "ext4")


async def test_a_process_of_no_cluster_cannot_mount(
    there: Cluster, session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_port, "connected", lambda: False)
    with pytest.raises(RefusedError, match="belongs to no cluster: mount it in a task"):
        await mount(session, "v", "rw", "ext4")
    assert there.calls == []


@pytest.mark.parametrize(
    ("trouble", "seen"),
    [
        (UnavailableError("the conductor is away"), FailedError),
        (BackendUnavailableError("the disk is away"), FailedError),
        (OSError(28, "No space left on device"), FailedError),
        (TypeError("what"), FailedError),
        (ConflictError("somebody else is at it"), ConflictError),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else type(value).__name__,
)
@pytest.mark.parametrize("doing", ["mount", "unmount"])
async def test_whatever_goes_wrong_is_a_handles_error(
    there: Cluster, session: Any, trouble: Exception, seen: type[HandleError], doing: str
) -> None:
    there.answers[doing] = [trouble]
    what: dict[str, Callable[[], Any]] = {
        "mount": lambda: mount(session, "v", "rw", "ext4"),
        "unmount": lambda: unmount(Claim("c", NODE, Path("/mounted"), session)),
    }
    with pytest.raises(seen, match=str(trouble.args[-1])):
        await what[doing]()
