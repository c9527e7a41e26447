"""The values that the networks of a script compute for an episode."""

import numpy as np
import torch

from cleanmarl.training.errors import Refused
from cleanmarl.watch.trained import Trained

CHUNK = 4096  # joint actions per call of the mixer


def explain(run: Trained, episode: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Everything that the page shows of the networks, over the T steps of an episode.

    - `q` [T, n_agents, n_actions]: the agents' action values
    - `q_tot` [T]: Q_tot of the actions taken
    - `slope` [T, n_agents]: dQ_tot/dq_i, each agent's weight in the team's value
    - `what_if` [T, n_agents, n_actions]: Q_tot if only this agent had taken another action; 0 if
      the action is not available
    - `returns` [T]: the discounted return that followed
    - `w1` [T, n_agents, dim] and `w2` [T, dim], if the mixer has `weights(state)`
    """
    tensors = {name: torch.from_numpy(part) for name, part in episode.items()}
    mixer, actions = run.networks.target_mixer, tensors["actions"]
    length = len(actions)
    state = tensors["state"][:length]
    try:
        with torch.no_grad():
            q = run.script.action_values(run.networks, tensors, run.args)[:length]
        taken = q.gather(-1, actions[..., None]).squeeze(-1).requires_grad_()  # [T, n_agents]
        q_tot = mixer(taken, state)
        (slope,) = torch.autograd.grad(q_tot.sum(), taken)
        with torch.no_grad():
            found = {"q": q, "q_tot": q_tot.detach(), "slope": slope}
            available = tensors["avail_actions"][:length] != 0
            found["what_if"] = what_if(mixer, q, taken, state, available)
            if hasattr(mixer, "weights"):
                found["w1"], found["w2"] = mixer.weights(state)
    except (RuntimeError, TypeError, ValueError) as error:
        wanted = "action_values(networks, episode, args), networks.target_mixer(q, state)"
        raise Refused(f"the script and its networks need a working {wanted}: {error}") from error
    arrays = {name: part.numpy() for name, part in found.items()}
    return arrays | {"returns": discounted(episode["reward"], getattr(run.args, "gamma", 1.0))}


def what_if(mixer, q, taken, state, available) -> torch.Tensor:
    """Q_tot if one agent had taken another action, and the others the same actions.

    Action values `q` [T, n_agents, n_actions], values of the actions `taken` [T, n_agents], states
    [T, state_size], `available` actions -> [T, n_agents, n_actions], 0 if not available
    """
    found = torch.zeros_like(q)
    for places in available.nonzero().split(CHUNK):
        t, agent, action = places.T
        values = taken[t]  # [CHUNK, n_agents]
        values[range(len(values)), agent] = q[t, agent, action]
        found[t, agent, action] = mixer(values, state[t])
    return found


def discounted(reward: np.ndarray, gamma: float) -> np.ndarray:
    """G_t = r_t + gamma G_t+1, [T]; rewards after a time limit count as 0."""
    returns = np.zeros(len(reward) + 1)
    for t in reversed(range(len(reward))):
        returns[t] = reward[t] + gamma * returns[t + 1]
    return returns[:-1]
