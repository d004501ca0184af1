"""Every release line as a source, and the targets that people move to."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.matrix.conftest import PAIRS, Pair
from tests.matrix.migrating import Outcome


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("pair", PAIRS, ids=" to ".join)
def test_every_release_arrives_with_its_dags_active_and_its_connections_readable(
    pair: Pair, migrate: Callable[[str, str], Outcome], outcomes: dict[Pair, Outcome]
) -> None:
    outcome = migrate(*pair)
    assert outcome.verified
    outcomes[pair] = outcome
