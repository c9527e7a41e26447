"""Observations, state and action masks, compiled by Numba (sections 6 and 13 of the rules)."""

import math

import numpy as np

from cleanmarl.battle.engine import SIGHT_RANGE, can_move, can_target, search2
from cleanmarl.battle.jit import inlined
from cleanmarl.battle.scenario import TARGET_RANGE
from cleanmarl.battle.world import HEAL


@inlined
def set_type(row, at, unit, n_types):
    """Write the one-hot type of a unit into a row of zeros."""
    if n_types > 0:
        row[at + unit.type] = 1.0


@inlined
def fraction(value, full):
    return np.float32(value / full) if full > 0 else np.float32(0)


@inlined
def observe_unit(row, at, unit, other, shields, n_types):
    """Write the entries of another unit that follow its flag and distance."""
    row[at + 2] = (other.x - unit.x) / np.float32(SIGHT_RANGE)
    row[at + 3] = (other.y - unit.y) / np.float32(SIGHT_RANGE)
    row[at + 4] = fraction(other.hp, other.max_hp)
    at += 5
    if shields:
        row[at] = fraction(other.shield, other.max_shield)
        at += 1
    set_type(row, at, other, n_types)


@inlined
def in_sight(unit, other):
    """Whether an agent sees a unit, and its distance."""
    distance = math.sqrt(search2(unit.x, unit.y, other.x, other.y))
    return other.alive and distance <= SIGHT_RANGE, distance


@inlined
def observe_agent(units, i, world, row):
    """The observation of agent i (13.1)."""
    rules = world.rules[0]
    unit = units[world.allies[i]]
    row[:] = 0.0
    if rules.agent_ids:
        row[rules.obs_id + i] = 1.0
    if not unit.alive:
        return
    for action in range(2, 6):
        row[action - 2] = 1.0 if can_move(unit, action, world) else 0.0
    for j in range(rules.n_enemies):
        other = units[world.enemies[j]]
        visible, distance = in_sight(unit, other)
        if visible:
            reach = distance <= TARGET_RANGE
            if unit.attack == HEAL:
                reach = ally_in_reach(units, i, j, world.allies)
            at = rules.obs_enemies + j * rules.obs_enemy_size
            row[at] = 1.0 if reach else 0.0
            row[at + 1] = distance / SIGHT_RANGE
            observe_unit(row, at, unit, other, rules.enemy_shields, rules.n_types)
    for j in range(rules.n_allies):
        other = units[world.allies[j]]
        visible, distance = in_sight(unit, other)
        if visible and j != i:
            at = rules.obs_allies + (j if j < i else j - 1) * rules.obs_ally_size
            row[at] = 1.0
            row[at + 1] = distance / SIGHT_RANGE
            observe_unit(row, at, unit, other, rules.ally_shields, rules.n_types)
    at = rules.obs_own
    row[at] = fraction(unit.hp, unit.max_hp)
    if rules.ally_shields:
        row[at + 1] = fraction(unit.shield, unit.max_shield)
    set_type(row, at + 1 + rules.ally_shields, unit, rules.n_types)
    if rules.own_place:
        row[rules.obs_place] = part_of(unit.x, rules.width)
        row[rules.obs_place + 1] = part_of(unit.y, rules.height)


@inlined
def part_of(place, length):
    """A coordinate as a number from 0 to 1, even for units off the map."""
    return np.float32(min(max(place / length, 0.0), 1.0))


@inlined
def ally_in_reach(units, i, j, allies):
    """The flag of enemy j for healer i: like SMAClite, check the *ally* with index j."""
    if j >= allies.shape[0] or j == i:
        return False
    unit, ally = units[allies[i]], units[allies[j]]
    return ally.alive and math.sqrt(search2(unit.x, unit.y, ally.x, ally.y)) <= TARGET_RANGE


@inlined
def observe_state(units, rules, state):
    """The state of the battle (13.3)."""
    state[:] = 0.0
    for u in range(units.shape[0]):
        unit = units[u]
        if unit.is_ally and unit.last_action >= 0:
            taken = unit.index * rules.n_actions + unit.last_action
            state[rules.state_actions + taken] = 1.0
        if not unit.alive:
            continue
        if unit.is_ally:
            at = unit.index * rules.state_ally_size
        else:
            at = rules.state_enemies + unit.index * rules.state_enemy_size
        state[at] = fraction(unit.hp, unit.max_hp)
        at += 1
        if unit.is_ally:
            if unit.attack == HEAL:
                state[at] = fraction(unit.energy, unit.max_energy)
            else:
                state[at] = fraction(unit.cooldown, unit.max_cooldown)
            at += 1
        state[at] = (np.float64(unit.x) - rules.width / 2) / rules.width
        state[at + 1] = (np.float64(unit.y) - rules.height / 2) / rules.height
        at += 2
        if rules.ally_shields if unit.is_ally else rules.enemy_shields:
            state[at] = fraction(unit.shield, unit.max_shield)
            at += 1
        set_type(state, at, unit, rules.n_types)


@inlined
def observe_actions(units, i, world, mask):
    """The mask of available actions of agent i (section 6)."""
    unit = units[world.allies[i]]
    mask[:] = 0
    if not unit.alive:
        mask[0] = 1
        return
    mask[1] = 1
    for action in range(2, 6):
        mask[action] = can_move(unit, action, world)
    side = world.allies if unit.attack == HEAL else world.enemies
    for j in range(min(side.shape[0], mask.shape[0] - 6)):  # no action targets the last healers
        mask[6 + j] = can_target(unit, units[side[j]])


@inlined
def observe(units, steps, world, seen):
    """Write observations, masks and state of one battle after some steps."""
    rules = world.rules[0]
    for i in range(world.allies.shape[0]):
        observe_agent(units, i, world, seen.obs[i])
        observe_actions(units, i, world, seen.avail_actions[i])
    observe_state(units, rules, seen.state)
    if rules.clock:
        left = np.float32(1 - steps / rules.time_limit)
        seen.obs[:, rules.obs_size - 1] = left
        seen.state[rules.state_size - 1] = left
