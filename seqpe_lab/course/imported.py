"""What training and executing lessons import, imported: see workers.py."""
import nbconvert.nbconvertapp  # noqa: F401
import sklearn.datasets  # noqa: F401
import torch

from seqpe_lab.cli import main  # noqa: F401
from seqpe_lab.tasks import images as vision  # noqa: F401

torch.optim.AdamW([torch.zeros(1, requires_grad=True)])  # torch imports its compiler with the first optimizer
