"""Kill -9 of everything while readings come: what is lost, counted twice or told otherwise."""

from __future__ import annotations

import argparse
import json
import signal
import sys

from benchmarks.faults.course import KINDS, Plan, carry_out

#: Later readings than the horizon of 24 hours would be kept, and not aggregated.
_MOST_HOURS = 20


def main() -> None:
    """Run the rounds and print the figures, as JSON in the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1, help="of everything random")
    parser.add_argument("--hours", type=float, default=8.0, help="span of the readings")
    parser.add_argument("--people", type=int, default=2)
    parser.add_argument(
        "--kinds", default=",".join(KINDS), help=f"what is killed, of {', '.join(KINDS)}"
    )
    options = parser.parse_args()
    kinds = options.kinds.split(",")
    if options.rounds < 1 or options.people < 1 or not 0 < options.hours <= _MOST_HOURS:
        parser.error("give at least one round and one person, and at most 20 hours")
    if unknown := set(kinds) - set(KINDS):
        parser.error(f"--kinds knows {', '.join(KINDS)}, not {', '.join(sorted(unknown))}")
    # A terminated run cleans up like an interrupted one.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    print(f"seed {options.seed}")
    plan = Plan(options.rounds, options.seed, options.hours, options.people, kinds)
    print(json.dumps(carry_out(plan)))


if __name__ == "__main__":
    main()
