"""Policies of TorchScript as teachers; how their code is followed is tests/teachers/test_script.py's."""

import numpy as np
from saved_policies import BY_FILE, greedy

from kd_agent import load_teacher


def test_the_export_of_rsl_rl_is_its_checkpoint() -> None:
    script, checkpoint = BY_FILE["torchscript/rsl_rl.pt"], BY_FILE["rsl_rl/model_mlp.pt"]
    teachers = [
        load_teacher(str(script.path), env=script.env),
        load_teacher(str(checkpoint.path), env=checkpoint.env, teacher_activation="elu", teacher_squash="none"),
    ]
    observations = script.answers()["observations"]
    one, other = (greedy(teacher, observations) for teacher in teachers)
    np.testing.assert_allclose(one, other, atol=1e-6)
    assert teachers[0].origin.num_parameters == teachers[1].origin.num_parameters
    assert teachers[0].to_graph().ops[0].kind == "normalise"


def test_a_stated_density_stands_beside_its_actions() -> None:
    saved = BY_FILE["torchscript/elu.pt"]
    row = load_teacher(str(saved.path), env=saved.env)({"obs": np.zeros((1, 3), np.float32)}).params[0]
    # A tenth of half the range of [-2, 2].
    np.testing.assert_allclose(row[1], np.log(0.2), atol=1e-6)
