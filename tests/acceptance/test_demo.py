"""`datanadhi-worker demo` and `dev` as their users run them: what they print, how they end, what they leave behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

COMMAND = Path(sys.executable).with_name("datanadhi-worker")


@dataclass
class Running:
    """A running command; its temporary files go below `folder`."""

    process: asyncio.subprocess.Process
    folder: Path
    lines: list[str] = field(default_factory=list)

    async def until(self, found: Callable[[str], object]) -> str:
        """Read its output up to a line of that kind."""
        assert self.process.stdout is not None
        while line := (await self.process.stdout.readline()).decode():
            self.lines.append(line.rstrip("\n"))
            if found(line):
                return self.lines[-1]
        raise AssertionError("\n".join(self.lines))

    async def end(self) -> int:
        """Read the rest of its output; its exit code."""
        with contextlib.suppress(AssertionError):
            await self.until(lambda _: False)
        return await self.process.wait()

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return "\n".join(self.lines)

    @property
    def table(self) -> dict[str, str]:
        """The rows of the demo's table."""
        cells = [[cell.strip() for cell in line.strip("│ ").split("│")] for line in self.lines if "│" in line]
        return dict(row for row in cells if len(row) == 2)

    def children(self) -> list[psutil.Process]:
        """The processes it has started and that are alive."""
        return psutil.Process(self.process.pid).children(recursive=True)

    async def until_children(self, count: int) -> list[psutil.Process]:
        """Wait until it has so many."""
        while len(children := self.children()) < count:  # noqa: ASYNC110 - a process appears without telling anybody
            await asyncio.sleep(0.01)
        return children


def _processes_below(folder: Path) -> list[str]:
    """The processes that work below a folder, removed or not."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if Path(process.cwd().removesuffix(" (deleted)")).is_relative_to(folder):
                found.append(f"{process.pid} {process.name()}")
    return found


@asynccontextmanager
async def _running(folder: Path, *arguments: str) -> AsyncIterator[Running]:
    """Start the command; at the end it must have left neither a process nor, unless it was killed, a file behind."""
    folder.mkdir()
    process = await asyncio.create_subprocess_exec(
        *(str(COMMAND), *arguments),
        # In a folder of its own; settings of whoever runs the tests must not reach what it starts.
        env={**os.environ, "TMPDIR": str(folder), "MONGO_URL": "mongodb://127.0.0.1:9", "TASK_QUEUE": "elsewhere"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield Running(process, folder)
        assert process.returncode is not None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert _processes_below(folder) == []
    assert process.returncode == -signal.SIGKILL or list(folder.iterdir()) == []


async def _run(folder: Path, *arguments: str) -> Running:
    async with _running(folder, *arguments) as command:
        await command.end()
    return command


async def test_two_demos_at_the_same_time_account_for_every_record(tmp_path: Path) -> None:
    for demo in await asyncio.gather(_run(tmp_path / "one", "demo"), _run(tmp_path / "two", "demo")):
        assert demo.process.returncode == 0, demo.output
        table = demo.table
        assert (table["records"], table["accounted for"]) == ("200", "200 of 200")
        assert (table["alerts (Slack): delivered"], table["alerts (Slack): failed"]) == ("19", "0")
        assert (table["archive (webhook): delivered"], table["archive (webhook): failed"]) == ("132", "0")
        assert (table["filtered"], table["failed in the pipeline"]) == ("49", "0")
        assert float(table["records/s"]) > 0
        assert int(table["history events of one message"]) <= 14
        assert sum(int(table[row]) for row in table if row.startswith("cache reads")) >= 200
        assert "POST /api/chat.postMessage" in demo.lines
        assert "POST /hook/archive" in demo.lines
        assert demo.lines[-1] == "All 200 records are accounted for."
        assert "\x1b" not in demo.output
        assert "credentials" not in demo.output


async def test_a_text_files_lines_are_delivered_in_batches(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    path.write_bytes(b"".join(b"line %d: caf\xe9 \x1b[2J[bold]\r\n" % number for number in range(75)) + b"\r\n")
    demo = await _run(tmp_path / "demo", "demo", "--file", str(path), "--batch-size", "20")
    assert demo.process.returncode == 0, demo.output
    assert demo.table["archive (webhook): delivered"] == "75"
    assert demo.table["accounted for"] == "75 of 75"
    assert demo.lines[:2] == [f"{path}: 75 records", "  1 empty line skipped"]
    assert "\x1b" not in demo.output


async def test_records_that_fail_in_the_pipeline_are_found_in_the_failure_store(tmp_path: Path) -> None:
    """A record nested too deeply to be processed has failed, and is accounted for; a bad line is told by its number."""
    path = tmp_path / "app.jsonl"
    deep = '{"a":' * 120 + "1" + "}" * 120
    path.write_text(f'{{"level": "ERROR", "message": "x"}}\n{deep}\nno JSON\n{{"level": "DEBUG"}}\n')
    demo = await _run(tmp_path / "demo", "demo", "--file", str(path))
    assert demo.process.returncode == 0, demo.output
    table = demo.table
    assert (table["alerts (Slack): delivered"], table["failed in the pipeline"], table["filtered"]) == ("1", "1", "1")
    assert "  line 3 skipped: not JSON" in demo.lines


@pytest.mark.parametrize("content", [None, b"", b"\r\n\n"])
async def test_a_file_without_a_record_is_wrong_usage_and_starts_nothing(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "app.log"
    if content is not None:
        path.write_bytes(content)
    demo = await _run(tmp_path / "demo", "demo", "--file", str(path))
    assert demo.process.returncode == 2
    assert demo.lines[-1].startswith(f"{path}: ")
    assert "Starting" not in demo.output


@pytest.mark.parametrize(("children", "number"), [(1, signal.SIGINT), (3, signal.SIGTERM), (4, signal.SIGINT)])
async def test_a_signal_while_it_starts_leaves_nothing(tmp_path: Path, children: int, number: signal.Signals) -> None:
    """With one, three (all servers) and four (the worker too) processes started."""
    async with _running(tmp_path / "demo", "demo") as demo:
        await demo.until_children(children)
        demo.process.send_signal(number)
        assert await demo.end() == 128 + number
    assert demo.lines[-1] == f"Interrupted ({number.name}); everything is stopped and removed."


async def test_ctrl_c_twice_while_it_sends_leaves_nothing(tmp_path: Path) -> None:
    async with _running(tmp_path / "demo", "demo") as demo:
        await demo.until(lambda line: line.endswith(" done\n"))
        demo.process.send_signal(signal.SIGINT)
        demo.process.send_signal(signal.SIGINT)
        assert await demo.end() == 130
    assert "Traceback" not in demo.output


async def test_a_worker_that_is_killed_ends_the_demo_with_exit_code_1(tmp_path: Path) -> None:
    async with _running(tmp_path / "demo", "demo") as demo:
        await demo.until(lambda line: line.endswith(" done\n"))
        (worker,) = [child for child in demo.children() if child.cmdline()[-2:] == ["workers", "run"]]
        worker.kill()
        assert await demo.end() == 1
    assert "worker ended with exit code -9" in demo.output


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux's kernel offers it")
async def test_a_demo_that_is_killed_leaves_no_process(tmp_path: Path) -> None:
    """Its folder stays: nobody is left to remove it."""
    async with _running(tmp_path / "demo", "demo") as demo:
        children = await demo.until_children(4)
        demo.process.kill()
        await demo.process.wait()
        await asyncio.to_thread(psutil.wait_procs, children, timeout=10)


async def test_dev_stays_up_for_the_commands_that_it_prints(tmp_path: Path) -> None:
    """The printed command sends a message; its delivery is printed; the other addresses answer."""
    async with _running(tmp_path / "dev", "dev") as dev:
        await dev.until(lambda line: line.startswith("Ctrl-C"))
        (start,) = [line for line in dev.lines if " workflow start " in line]
        shell = await asyncio.create_subprocess_shell(start, stdout=asyncio.subprocess.DEVNULL)
        assert await shell.wait() == 0
        delivery = await dev.until(lambda line: line.startswith("alerts: "))
        assert "the first message of mine" in delivery
        for name in ("Temporal's web UI", "Worker's health", "Worker's metrics"):
            (line,) = [line for line in dev.lines if line.startswith(name)]
            assert await _status(line) == 200
        dev.process.send_signal(signal.SIGTERM)
        assert await dev.end() == 0


async def _status(line: str) -> int:
    match = re.search(r"http://([\d.]+):(\d+)(\S*)", line)
    assert match is not None
    reader, writer = await asyncio.open_connection(match[1], int(match[2]))
    writer.write(f"GET {match[3] or '/'} HTTP/1.0\r\n\r\n".encode())
    status = (await reader.readline()).split()[1]
    writer.close()
    return int(status)


async def test_dev_without_a_worker_keeps_what_is_sent_for_one_started_by_hand(tmp_path: Path) -> None:
    """The printed command starts one, with the stack's settings."""
    async with _running(tmp_path / "dev", "dev", "--no-worker") as dev:
        await dev.until(lambda line: line.startswith("Ctrl-C"))
        (start,) = [line for line in dev.lines if " workflow start " in line]
        shell = await asyncio.create_subprocess_shell(start, stdout=asyncio.subprocess.DEVNULL)
        assert await shell.wait() == 0
        (by_hand,) = [line for line in dev.lines if line.endswith(" run)")]
        worker = await asyncio.create_subprocess_shell(
            by_hand, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL, start_new_session=True
        )
        await dev.until(lambda line: line.startswith("alerts: "))
        os.killpg(worker.pid, signal.SIGTERM)
        await worker.wait()
        dev.process.send_signal(signal.SIGINT)
        assert await dev.end() == 0
