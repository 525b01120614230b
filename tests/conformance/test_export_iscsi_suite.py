"""libiscsi's own suite of SCSI and iSCSI (`iscsi-test-cu`) against the export `iscsi`, family by family, with CHAP.

What tgtd 1.0.85 itself does otherwise is in `KNOWN`, and in docs/limitations.md; that fails, nothing else. Left out are
families of which tgtd knows no command (the suite skips them) and those that take long for what they say.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from actors import processes
from drivers.vocabulary import ConnectionInfo
from tests.conformance.export_harness import INITIATOR, Iscsi, Place

_VOLUME_BYTES = 64 << 20
_FAMILIES = (
    "GetLBAStatus",
    "Inquiry",
    "Mandatory",
    "ModeSense6",
    "Prefetch10",
    "Prefetch16",
    "PrinReadKeys",
    "PrinReportCapabilities",
    "PrinServiceactionRange",
    "ProutClear",
    "ProutPreempt",
    "ProutRegister",
    "ProutReserve",
    "Read6",
    "Read10",
    "Read12",
    "Read16",
    "ReadCapacity10",
    "ReadCapacity16",
    "TestUnitReady",
    "Unmap",
    "Write10",
    "Write12",
    "Write16",
    "WriteVerify16",
    "iSCSIResiduals",
    "iSCSITMF",
    "iSCSIdatasn",
)
KNOWN = {
    "GetLBAStatus": {"BeyondEol", "UnmapSingle"},
    "PrinServiceactionRange": {"Range"},
    "ProutReserve": {"OwnershipEA", "OwnershipWE", "OwnershipEARO", "OwnershipWERO"},
    "Unmap": {"ZeroBlocks"},
    "iSCSIdatasn": {"iSCSIDataSnInvalid"},
}
_SUMMARY = re.compile(r"^\s*tests\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)", re.MULTILINE)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """An export of one volume, as the suite is told of it."""
    assert shutil.which("iscsi-test-cu"), "iscsi-test-cu is missing: apt-get install libiscsi-bin"
    place = Place()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(processes.MARK, place.mark)
        way = Iscsi(place)
        volume_id, path = place.volume(_VOLUME_BYTES)

        async def connect() -> ConnectionInfo:
            export = way.export()
            await export.open()
            return await export.ensure_connection(way.spec(volume_id), path)

        try:
            data = asyncio.run(connect()).data
            # By argument, for the suite reads passwords nowhere else; this one lives as long as the module's tests.
            who = f"{data['auth_username']}%{data['auth_password']}"
            yield f"iscsi://{who}@{data['target_portal']}/{data['target_iqn']}/{data['target_lun']}"
        finally:
            place.leave()


@pytest.mark.parametrize("family", _FAMILIES)
def test_family(url: str, family: str) -> None:
    # The suite's second initiator has the first one's name: another would not be let in.
    names = ["--initiator-name", INITIATOR, "--initiator-name-2", INITIATOR]
    command = ["iscsi-test-cu", *names, "--dataloss", "--test", f"ALL.{family}", url]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout
    tests = _tests(said)
    summary = _SUMMARY.search(said)
    assert summary is not None, said
    total, ran, _passed, failed = (int(number) for number in summary.groups())
    assert len(tests) == total == ran > 0, said
    assert not [name for name, text in tests.items() if "[SKIPPED]" in text], said
    failures = {name for name, text in tests.items() if "FAILED\n" in text}
    assert len(failures) == failed
    assert failures == KNOWN.get(family, set()), said


def _tests(said: str) -> dict[str, str]:
    """What was said of each test, by its name."""
    parts = re.split(r"^  Test: (\S+) \.\.\.", said.partition("\nRun Summary")[0], flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))
