"""recbole_ib.utils.ray: what needs no running Ray; tests/tuning has the rest."""

from __future__ import annotations

import socket

import pytest

from recbole_ib.errors import ConfigurationError
from recbole_ib.utils.ray import ray_session


def test_an_address_where_nothing_listens_is_refused_at_once():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (
        pytest.raises(ConfigurationError, match=rf"no Ray cluster answers at '127.0.0.1:{port}'"),
        ray_session(f"127.0.0.1:{port}"),
    ):
        pass
