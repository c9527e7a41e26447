"""What the learner sees: observations, state and masks of available actions, compiled by Numba.

See sections 6 and 13 of the rules.
"""

import math

import numpy as np

from cleanmarl.battle.engine import SIGHT_RANGE, TARGET_RANGE, can_move, can_target, search2
from cleanmarl.battle.jit import inlined
from cleanmarl.battle.world import HEAL


@inlined
def one_hot(row, at, size, index):
    for i in range(size):
        row[at + i] = 1.0 if i == index else 0.0
    return at + size


@inlined
def fraction(value, full):
    return np.float32(value / full) if full > 0 else np.float32(0)


@inlined
def observe_unit(row, at, unit, other, distance, flag, shields, n_types):
    """The block of another unit that is in sight; returns where the next block begins."""
    row[at] = flag
    row[at + 1] = distance / SIGHT_RANGE
    row[at + 2] = (other.x - unit.x) / np.float32(SIGHT_RANGE)
    row[at + 3] = (other.y - unit.y) / np.float32(SIGHT_RANGE)
    row[at + 4] = fraction(other.hp, other.max_hp)
    at += 5
    if shields:
        row[at] = fraction(other.shield, other.max_shield)
        at += 1
    return one_hot(row, at, n_types, other.type)


@inlined
def observe_agent(units, u, allies, rules, blocked, row):
    """The observation of one agent (13.1)."""
    unit = units[u]
    row[:] = 0.0
    if rules.agent_ids:
        row[rules.obs_size - rules.n_allies + unit.index] = 1.0
    if not unit.alive:
        return
    for action in range(2, 6):
        row[action - 2] = 1.0 if can_move(unit, action, rules, blocked) else 0.0
    enemy_size = 5 + rules.enemy_shields + rules.n_types
    ally_size = 5 + rules.ally_shields + rules.n_types
    first_ally = 4 + rules.n_enemies * enemy_size
    for v in range(units.shape[0]):
        other = units[v]
        if v == u or not other.alive:
            continue
        distance = math.sqrt(search2(unit.x, unit.y, other.x, other.y))
        if distance > SIGHT_RANGE:
            continue
        if other.is_ally:
            at = first_ally + (other.index - (other.index > unit.index)) * ally_size
            observe_unit(row, at, unit, other, distance, 1.0, rules.ally_shields, rules.n_types)
        else:
            flag = 1.0 if distance <= TARGET_RANGE else 0.0
            if unit.attack == HEAL:
                flag = 1.0 if ally_in_reach(units, u, allies, other.index) else 0.0
            at = 4 + other.index * enemy_size
            observe_unit(row, at, unit, other, distance, flag, rules.enemy_shields, rules.n_types)
    at = first_ally + (rules.n_allies - 1) * ally_size
    row[at] = fraction(unit.hp, unit.max_hp)
    if rules.ally_shields:
        row[at + 1] = fraction(unit.shield, unit.max_shield)
    one_hot(row, at + 1 + rules.ally_shields, rules.n_types, unit.type)


@inlined
def ally_in_reach(units, u, allies, index):
    """What a healer sees as the flag of the enemy with this index.

    SMAClite asks for the *ally* of that index.
    """
    if index >= allies.shape[0] or allies[index] == u:
        return False
    ally = units[allies[index]]
    return ally.alive and math.sqrt(search2(units[u].x, units[u].y, ally.x, ally.y)) <= TARGET_RANGE


@inlined
def observe_state(units, rules, state):
    """The state of the battle (13.3)."""
    state[:] = 0.0
    ally_size = 4 + rules.ally_shields + rules.n_types
    enemy_size = 3 + rules.enemy_shields + rules.n_types
    first_enemy = rules.n_allies * ally_size
    first_action = first_enemy + rules.n_enemies * enemy_size
    for u in range(units.shape[0]):
        unit = units[u]
        if unit.is_ally and unit.last_action >= 0:
            state[first_action + unit.index * rules.n_actions + unit.last_action] = 1.0
        if not unit.alive:
            continue
        at = unit.index * ally_size if unit.is_ally else first_enemy + unit.index * enemy_size
        state[at] = fraction(unit.hp, unit.max_hp)
        at += 1
        if unit.is_ally:
            healer = unit.attack == HEAL
            state[at] = (
                fraction(unit.energy, unit.max_energy)
                if healer
                else fraction(unit.cooldown, unit.max_cooldown)
            )
            at += 1
        state[at] = (np.float64(unit.x) - rules.width / 2) / rules.width
        state[at + 1] = (np.float64(unit.y) - rules.height / 2) / rules.height
        at += 2
        if rules.ally_shields if unit.is_ally else rules.enemy_shields:
            state[at] = fraction(unit.shield, unit.max_shield)
            at += 1
        one_hot(state, at, rules.n_types, unit.type)


@inlined
def observe_actions(units, u, rules, blocked, mask):
    """The mask of available actions of one agent (section 6)."""
    unit = units[u]
    mask[:] = 0
    if not unit.alive:
        mask[0] = 1
        return
    mask[1] = 1
    for action in range(2, 6):
        mask[action] = can_move(unit, action, rules, blocked)
    healer = unit.attack == HEAL
    for v in range(units.shape[0]):
        other = units[v]
        if other.is_ally == healer and can_target(unit, other):
            mask[6 + other.index] = 1


@inlined
def observe(units, rules, blocked, allies, obs, state, avail_actions):
    """All that the learner sees of one battle; `allies` is scratch for the allies' unit numbers."""
    for u in range(units.shape[0]):
        if units[u].is_ally:
            allies[units[u].index] = u
    for i in range(allies.shape[0]):
        observe_agent(units, allies[i], allies, rules, blocked, obs[i])
        observe_actions(units, allies[i], rules, blocked, avail_actions[i])
    observe_state(units, rules, state)
