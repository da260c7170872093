"""A seeded test bed: simulated people whose truth, gaps and faults are known."""

from anomaly_assets.evaluation.simulator.causality import Equation, Term
from anomaly_assets.evaluation.simulator.demo import demo_faults
from anomaly_assets.evaluation.simulator.equations import EQUATIONS
from anomaly_assets.evaluation.simulator.faults import Fault, FaultKind, InjectedFault
from anomaly_assets.evaluation.simulator.gaps import NOTHING_MISSING, MissingPattern
from anomaly_assets.evaluation.simulator.generic import simulate_windows, synthetic_catalogue
from anomaly_assets.evaluation.simulator.lives import Travel
from anomaly_assets.evaluation.simulator.silence import MissingStreams, SilencePattern
from anomaly_assets.evaluation.simulator.simulation import Simulation, simulate
from anomaly_assets.evaluation.simulator.testbed import (
    SCORED_KINDS,
    Strengths,
    many_faults,
    window_block,
)
from anomaly_assets.evaluation.simulator.transport import (
    ClockSkew,
    Delivery,
    SensorDrift,
    in_order_of_arrival,
    with_drift,
    with_skew,
)
from anomaly_assets.evaluation.simulator.wide import WideTestBed, wide_testbed

__all__ = [
    "EQUATIONS",
    "NOTHING_MISSING",
    "SCORED_KINDS",
    "ClockSkew",
    "Delivery",
    "Equation",
    "Fault",
    "FaultKind",
    "InjectedFault",
    "MissingPattern",
    "MissingStreams",
    "SensorDrift",
    "SilencePattern",
    "Simulation",
    "Strengths",
    "Term",
    "Travel",
    "WideTestBed",
    "demo_faults",
    "in_order_of_arrival",
    "many_faults",
    "simulate",
    "simulate_windows",
    "synthetic_catalogue",
    "wide_testbed",
    "window_block",
    "with_drift",
    "with_skew",
]
