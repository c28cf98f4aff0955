"""Peer DMA: a GPU that reaches the VRAM of another one, and its own, by bus addresses."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from gpu_rig import VRAM_BASE, Bench, Place, Rig, bench_session, entry, vram

from vfiodev.gpu.commands import ErrorCode, Opcode

PEER_BASE = 0x50_0000_0000


def at(address: int) -> Place:
    return Place(space=1, address=address)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with bench_session(tmp_path / "trace.jsonl") as bench:
        yield bench


@pytest.fixture
def pair(bench: Bench) -> tuple[Rig, Rig]:
    rig, peer = bench.add("gpu0"), bench.add("gpu1")
    peer.write_config(0x18, 8, PEER_BASE)
    peer.write_config(0x10, 4, 0xFE02_0000)
    rig.start()
    peer.start()
    return rig, peer


def test_read_and_write_of_a_peer(pair: tuple[Rig, Rig]) -> None:
    rig, peer = pair
    size = 0x18_0000
    peer.engines[0].run(entry(Opcode.FILL, dst=vram(64), size=size, arg32=0x1234_5678))
    rig.engines[0].run(
        entry(Opcode.COPY, src=at(PEER_BASE + 64), dst=vram(0), size=size),
        entry(Opcode.FILL, dst=at(PEER_BASE), size=32, arg32=7),
    )
    assert bytes(rig.vram[:size]) == (0x1234_5678).to_bytes(4, "little") * (size // 4)
    assert bytes(peer.vram[:64]) == (7).to_bytes(4, "little") * 8 + bytes(32)
    assert bytes(rig.vram[size : size + 64]) == bytes(64)


def test_a_semaphore_in_the_vram_of_a_peer(pair: tuple[Rig, Rig]) -> None:
    rig, peer = pair
    rig.engines[0].submit(entry(Opcode.SEM_WAIT, dst=at(PEER_BASE + 8), arg0=3))
    peer.engines[1].run(entry(Opcode.SEM_RELEASE, dst=vram(8), arg0=3))
    rig.engines[0].wait_idle()


def test_own_vram_by_its_bus_address(pair: tuple[Rig, Rig]) -> None:
    rig, _peer = pair
    rig.engines[0].run(entry(Opcode.FILL, dst=at(VRAM_BASE + 128), size=8, arg32=9))
    assert rig.vram[128] == 9


CHANGES: dict[str, Callable[[Rig], None]] = {
    "decoding": lambda peer: peer.write_config(0x04, 2, 0x4),
    "moved": lambda peer: peer.write_config(0x18, 8, PEER_BASE << 1),
    "unplugged": lambda peer: peer.replug_without_addresses(),
    "removed": lambda peer: peer.inject("surprise_removal"),
    "ones": lambda peer: peer.inject("config_ones"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_peer_that_does_not_answer(pair: tuple[Rig, Rig], change: str) -> None:
    rig, peer = pair
    CHANGES[change](peer)
    rig.engines[0].submit(entry(Opcode.COPY, src=at(PEER_BASE), dst=vram(0), size=64))
    assert rig.engines[0].wait_error() == (ErrorCode.DMA_FAULT, 0, PEER_BASE)


def test_across_the_end_of_a_peer(pair: tuple[Rig, Rig]) -> None:
    rig, peer = pair
    end = PEER_BASE + len(peer.vram)
    rig.engines[0].submit(entry(Opcode.FILL, dst=at(end - 8), size=16, arg32=5))
    assert rig.engines[0].wait_error()[0] == ErrorCode.DMA_FAULT
