"""A seeded test bed: simulated people whose truth, gaps and faults are known."""

from anomaly_assets.evaluation.simulator.causality import Equation, Term
from anomaly_assets.evaluation.simulator.demo import demo_faults
from anomaly_assets.evaluation.simulator.equations import EQUATIONS
from anomaly_assets.evaluation.simulator.faults import Fault, FaultKind, InjectedFault
from anomaly_assets.evaluation.simulator.gaps import NOTHING_MISSING, MissingPattern
from anomaly_assets.evaluation.simulator.generic import simulate_windows, synthetic_catalogue
from anomaly_assets.evaluation.simulator.simulation import Simulation, simulate

__all__ = [
    "EQUATIONS",
    "NOTHING_MISSING",
    "Equation",
    "Fault",
    "FaultKind",
    "InjectedFault",
    "MissingPattern",
    "Simulation",
    "Term",
    "demo_faults",
    "simulate",
    "simulate_windows",
    "synthetic_catalogue",
]
