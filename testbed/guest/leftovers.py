"""Ends what a command that ran out of time left running in the guest.

Hanging up on it does not: a guest's sshd kills nobody, and a later step would share the machine, or the GPU,
with it. Its processes are found by a variable in their environment, which they inherit also as daemons with a
session of their own; the shell itself and its subshells by their command line, which has the same text.
"""

from __future__ import annotations

VARIABLE = "TESTBED_COMMAND"
SECONDS = 5.0
"""How long `END` may take."""

# The shell's own words only: under emulation each program started costs tens of milliseconds. Its `read`
# drops NUL bytes. Several rounds, since a process can fork while others are looked at.
END = """\
read -r mark
for round in 1 2 3 4 5 6 7 8 9 10; do
    left=0
    for process in /proc/[0-9]*; do
        for file in cmdline environ; do
            while read -r line || [ -n "$line" ]; do
                case $line in *"$mark"*)
                    kill -9 "${process#/proc/}"
                    left=$((left + 1))
                    break 2
                esac
            done < "$process/$file"
        done
    done 2>/dev/null
    [ $left = 0 ] && exit 0
    sleep 0.05
done
echo $left
"""
"""A shell script: kills all processes that have the mark on its standard input, prints how many are left."""


def build_mark(command: str) -> str:
    """Return the text that all processes of the command called ``command`` have; none begins another."""
    return f"{VARIABLE}={command}."


def mark_command(command: str, mark: str) -> str:
    """Return ``command`` for the guest's shell with its mark; the numbers of its lines stay."""
    return f"export {mark}; {command}"
