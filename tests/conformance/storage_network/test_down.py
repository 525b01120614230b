"""What `pumice down` does of rules that are all that is left of an instance."""

from __future__ import annotations

import ipaddress
from pathlib import Path

from click.testing import CliRunner, Result

from actors.instance import mark_of
from cluster.storage_network import htb, nft, shaping
from cluster.storage_network.allow_list import ruleset, table_name
from cluster.storage_network.seam import Way
from drivers.vocabulary import Portal
from serve_app.command.main import pumice
from serve_app.command.state_dir import ensure_state_dir
from tests.conformance.storage_network.namespaces import space


def test_rules_that_outlived_their_instance_go(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    ensure_state_dir(directory)
    mine, other = table_name(mark_of(directory), "fast"), table_name(mark_of(tmp_path / "other"), "fast")
    way = Way("c1", "v1", Portal("192.0.2.1", 10900), "192.0.2.2", is_local=False)

    def down() -> Result:
        return CliRunner().invoke(pumice, ["down", "--state-dir", str(directory)])

    with space() as one:
        for table in (mine, other):
            one.do(lambda table=table: nft.run(ruleset(table, [way])))
        first = one.do(down)
        assert (first.exit_code, first.output) == (0, "stopped\n")
        assert one.do(lambda: nft.tables("pumice-")) == [other]
        (directory / "network" / "fast").mkdir(parents=True)
        owners = [shaping.owner_of(mark_of(place), "fast") for place in (directory, tmp_path / "other")]
        flow = htb.Flow(ipaddress.ip_address("127.0.0.1"), 3261, None)
        for owner in owners:
            assert one.do(lambda owner=owner: htb.ensure(owner, {flow: 1 << 20})) == {}
        assert one.do(down).output == "stopped\n"
        assert one.do(htb.owners) == {owners[1]}
        second = one.do(down)
        assert second.output == f"nothing runs in {directory}\n"
