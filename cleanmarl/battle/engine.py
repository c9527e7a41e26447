"""The rules of the battle, compiled by Numba: orders, targets, movement, attacks, deaths.

Numbers in brackets name sections of the rules. A battle is an array of `UNIT` records. A tick runs
parts A to G in the order of section 8; an environment step is eight ticks.
`compiled.py` holds the few functions that Python calls.
"""

import math

import numpy as np

from cleanmarl.battle.jit import inlined
from cleanmarl.battle.orca import cell_of, new_velocity, take_places
from cleanmarl.battle.scenario import TARGET_RANGE
from cleanmarl.battle.world import HEAL, KAMIKAZE, LASER, MARCH, MOVE, NOBODY, STOP, TARGET

TICKS_PER_STEP = 8
DT = 1 / 16  # seconds
MOVE_DISTANCE = 2.0
SIGHT_RANGE = 9.0
SHIELD_REGEN, SHIELD_WAIT = 0.125, 10.0  # per tick; seconds
ENERGY_REGEN = 0.03515625  # per tick
HEAL_PER_TICK, HEAL_PER_ENERGY, ENERGY_TO_HEAL = 0.5625, 3.0, 5.0
KILL_REWARD, WIN_REWARD, REWARD_SCALE = 10.0, 200.0, 20.0
# An ally beyond scan range that attacks the enemy counts as this far away when the enemy chooses.
ONLY_AS_A_TARGET = 2e9


# Distances (9.1): `within` compares in single precision, `search2` squares in double precision.


@inlined
def within(ax, ay, bx, by, reach):
    dx, dy = abs(ax - bx), abs(ay - by)
    single = np.float32(reach)
    # `&` and `|` avoid branches, which the processor often predicts wrongly in drawn battles.
    near = (dx + dy <= single) | (dx * dx + dy * dy <= np.float32(reach * reach))
    return near & (dx <= single) & (dy <= single)


@inlined
def search2(ax, ay, bx, by):
    dx, dy = np.float64(ax) - np.float64(bx), np.float64(ay) - np.float64(by)
    return dx * dx + dy * dy


@inlined
def in_range(unit, other):
    return within(unit.x, unit.y, other.x, other.y, unit.range + other.radius + unit.radius)


@inlined
def can_hit(unit, other):
    return (unit.targets >> other.plane) & 1 == 1


# Actions and orders (section 6)


@inlined
def direction(action):
    """Unit step of the move actions 2 to 5: north, south, east, west."""
    if action == 2:
        return 0.0, 1.0
    if action == 3:
        return 0.0, -1.0
    if action == 4:
        return 1.0, 0.0
    return -1.0, 0.0


@inlined
def target_of(unit, action, world):
    """The number of the unit that an attack or heal action targets, or NOBODY."""
    side = world.allies if unit.attack == HEAL else world.enemies
    return side[action - 6] if action - 6 < side.shape[0] else NOBODY


@inlined
def can_move(unit, action, world):
    dx, dy = direction(action)
    cell = cell_of(unit.x + dx, unit.y + dy, world.rules[0])
    return not world.cells[cell].blocked


@inlined
def can_target(unit, other):
    """Whether an agent may pick this unit as the target of its action."""
    near = within(unit.x, unit.y, other.x, other.y, TARGET_RANGE)
    return near & other.alive & ((unit.attack != HEAL) | (other.attack != HEAL))


@inlined
def is_available(units, unit, action, world):
    if action < 0 or action >= world.rules[0].n_actions:
        return False
    if not unit.alive or action == 0:
        return not unit.alive and action == 0
    if action == 1:
        return True
    if action < 6:
        return can_move(unit, action, world)
    other = target_of(unit, action, world)
    return other != NOBODY and can_target(unit, units[other])


@inlined
def give_orders(units, actions, world):
    """Turn the agents' actions into orders for all ticks of a step; they must be available."""
    for i in range(actions.shape[0]):
        unit = units[world.allies[i]]
        action = actions[i]
        unit.last_action = action
        if not unit.alive:
            continue
        unit.order_target = NOBODY
        if action >= 6:
            unit.order = TARGET
            unit.order_target = target_of(unit, action, world)
        elif action >= 2:
            dx, dy = direction(action)
            unit.order = MOVE
            unit.order_x, unit.order_y = unit.x + MOVE_DISTANCE * dx, unit.y + MOVE_DISTANCE * dy
        else:
            unit.order = STOP


# Targets and preferred velocities (section 9)


@inlined
def clean_up_target(units, u):
    """Drop a target that the order or the script no longer has (9.2)."""
    unit = units[u]
    unit.prev_target = unit.target
    if unit.order == TARGET:
        unit.target = unit.order_target if units[unit.order_target].hp > 0 else NOBODY
    elif unit.order != MARCH:
        unit.target = NOBODY
    elif unit.target != NOBODY:
        target = units[unit.target]
        if target.hp == 0 or (target.target != u and not in_range(unit, target)):
            unit.target = NOBODY


@inlined
def choose_opponent(units, u, world, seeking):
    """The ally that an enemy fighter chooses to attack among those it sees (9.3, 9.4).

    If `seeking`, allies that attack it are candidates too.
    """
    unit = units[u]
    scan = unit.scan_range + world.rules[0].max_radius
    best, best_healer, best_distance = NOBODY, False, math.inf
    for i in range(world.allies.shape[0]):
        v = world.allies[i]
        other = units[v]
        if not other.alive or not can_hit(unit, other):
            continue
        d2 = search2(unit.x, unit.y, other.x, other.y)
        attacks_it = other.target == u
        if d2 <= scan * scan:
            distance = math.sqrt(d2)
            if not attacks_it and distance >= unit.scan_range + other.radius:
                continue
        elif seeking and attacks_it:
            distance = ONLY_AS_A_TARGET
        else:
            continue
        healer = other.attack == HEAL
        if (
            best == NOBODY
            or healer > best_healer
            or (healer == best_healer and distance < best_distance)
        ):
            best, best_healer, best_distance = v, healer, distance
    return best


@inlined
def choose_patient(units, u, enemies):
    """An enemy healer's choice: the enemy with least hp that is hurt or has a target (9.4)."""
    unit = units[u]
    best, best_hp = NOBODY, math.inf
    for i in range(enemies.shape[0]):
        v = enemies[i]
        other = units[v]
        if not other.alive or not can_hit(unit, other):
            continue
        if math.sqrt(search2(unit.x, unit.y, other.x, other.y)) >= unit.scan_range + other.radius:
            continue
        if (other.hp < other.max_hp or other.target != NOBODY) and other.hp < best_hp:
            best, best_hp = v, other.hp
    return best


@inlined
def healer_speed(units, u, rules, had_target, any_seeker):
    """An enemy healer moves at the speed of the slowest unit among its candidates (9.3, 9.6)."""
    unit = units[u]
    scan = unit.scan_range + rules.max_radius
    slowest = math.inf
    for v in range(units.shape[0]):
        other = units[v]
        if not other.alive or not can_hit(unit, other):
            continue
        if had_target:
            listed = any_seeker and other.is_ally and other.target == u
        else:
            listed = not other.is_ally and search2(unit.x, unit.y, other.x, other.y) <= scan * scan
        if listed:
            slowest = min(slowest, other.speed)
    return unit.speed if slowest == math.inf else slowest


@inlined
def head_for_point(unit, x, y, speed):
    """Full speed towards a fixed point, in double precision (9.6)."""
    dx, dy = x - unit.x, y - unit.y
    norm = math.sqrt(dx * dx + dy * dy)
    unit.pref_single = False
    unit.pref_x = unit.pref_y = 0.0
    if unit.speed != 0 and norm != 0:
        unit.pref_x, unit.pref_y = dx * speed / norm, dy * speed / norm


@inlined
def head_for_unit(unit, other, speed):
    """Full speed towards a unit, in single precision (9.6)."""
    dx, dy = other.x - unit.x, other.y - unit.y
    norm = np.sqrt(dx * dx + dy * dy)
    unit.pref_single = True
    unit.pref_x = unit.pref_y = 0.0
    if unit.speed != 0 and norm != 0:
        single = np.float32(speed)
        unit.pref_x, unit.pref_y = dx * single / norm, dy * single / norm


@inlined
def engage(unit, other, speed):
    """Attack or heal the unit if it is in range, else move towards it (9.6)."""
    if in_range(unit, other) and can_hit(unit, other):
        unit.attacking = True
        unit.pref_x = unit.pref_y = 0.0
    else:
        head_for_unit(unit, other, speed)


@inlined
def follow_script(units, u, world, any_seeker, any_allied_healer):
    """The script of an enemy: march, choose a target, attack it (9.5)."""
    unit = units[u]
    had_target = unit.target != NOBODY
    speed = unit.speed
    if unit.attack == HEAL:
        speed = healer_speed(units, u, world.rules[0], had_target, any_seeker)
        if not had_target:
            unit.target = choose_patient(units, u, world.enemies)
    elif not had_target:
        unit.target = choose_opponent(units, u, world, True)
    elif any_allied_healer and units[unit.target].attack != HEAL:
        better = choose_opponent(units, u, world, False)
        if better != NOBODY:
            unit.target = better
    if unit.target == NOBODY:
        head_for_point(unit, unit.order_x, unit.order_y, speed)
    else:
        engage(unit, units[unit.target], speed)


@inlined
def choose_preferred_velocity(units, u, world, any_seeker, any_allied_healer):
    unit = units[u]
    if unit.order == MARCH:
        follow_script(units, u, world, any_seeker, any_allied_healer)
    elif unit.order == TARGET:
        engage(unit, units[unit.order_target], unit.speed)
    elif unit.order == MOVE:
        head_for_point(unit, unit.order_x, unit.order_y, unit.speed)
    else:
        unit.pref_x = unit.pref_y = 0.0


# Attacks (section 11). Each returns its reward: damage done to enemies, and kills.


@inlined
def blow(unit, other, damages):
    reward = 0.0
    for _ in range(unit.attacks):
        if other.hp == 0:
            break
        damage = damages[unit.kind, other.kind]
        if other.max_shield > 0:
            other.shield_wait = SHIELD_WAIT
        shield_loss = min(damage, other.shield)
        other.shield -= shield_loss
        hp_loss = max(0.0, min(damage - shield_loss - other.armor, other.hp))
        other.hp -= hp_loss
        if not other.is_ally:
            reward += shield_loss + hp_loss
            if other.hp == 0:
                reward += KILL_REWARD
    return reward


@inlined
def explode(units, unit, world):
    """The kamikaze's attack: it dies, and hits every opposing unit around it."""
    reward = 0.0 if unit.is_ally else unit.hp
    unit.hp = 0.0
    search = unit.splash_radius + world.rules[0].max_radius
    for v in range(units.shape[0]):
        other = units[v]
        if (
            other.alive
            and other.is_ally != unit.is_ally
            and search2(unit.x, unit.y, other.start_x, other.start_y) <= search * search
            and within(unit.x, unit.y, other.x, other.y, unit.splash_radius + other.radius)
        ):
            reward += blow(unit, other, world.damages)
    return reward


@inlined
def fire_laser(units, unit, target, world):
    """Hit every opposing unit in a beam across the line of fire, centred on the target."""
    reward = 0.0
    if target.x == unit.x and target.y == unit.y:
        return reward  # no line of fire, so nothing is hit
    # Slope of the beam in single precision; for a target due north or south the axis is (1, 0).
    angle = np.arctan(np.float32(-1) / ((target.y - unit.y) / (target.x - unit.x)))
    across_x, across_y = np.cos(angle), np.sin(angle)
    reach2 = (unit.beam_length**2 + unit.beam_depth**2) / 4
    for v in range(units.shape[0]):
        other = units[v]
        if not other.alive or other.is_ally == unit.is_ally:
            continue
        if search2(target.x, target.y, other.start_x, other.start_y) > reach2:
            continue
        dx, dy = target.x - other.x, target.y - other.y
        across = max(0.0, abs(across_x * dx + across_y * dy) - unit.beam_length / 2)
        along = max(0.0, abs(across_x * dy - across_y * dx) - unit.beam_depth / 2)
        if across * across + along * along <= other.radius * other.radius:
            reward += blow(unit, other, world.damages)
    return reward


@inlined
def heal(unit, patient):
    new_patient = unit.prev_target != unit.target
    if (new_patient and unit.energy < ENERGY_TO_HEAL) or patient.hp == patient.max_hp:
        unit.target = NOBODY
        return
    want = min(patient.max_hp - patient.hp, HEAL_PER_TICK)
    if unit.heal_pool < want:
        spent = min(1.0, unit.energy)
        unit.energy -= spent
        unit.heal_pool += HEAL_PER_ENERGY * spent
    given = min(want, unit.heal_pool)
    unit.heal_pool -= given
    patient.hp += given


@inlined
def fire(units, unit, target, world):
    if unit.attack == KAMIKAZE:
        return explode(units, unit, world)
    if unit.attack == LASER:
        return fire_laser(units, unit, target, world)
    if unit.attack == HEAL:
        heal(unit, target)
        return 0.0
    return blow(unit, target, world.damages)


@inlined
def update(units, unit, world):
    """Move, update timers and regeneration, carry out the order (part F); returns the reward."""
    unit.vel_x, unit.vel_y = unit.new_x, unit.new_y
    unit.x = np.float32(unit.x + unit.vel_x * DT)
    unit.y = np.float32(unit.y + unit.vel_y * DT)
    if unit.cooldown > 0:
        unit.cooldown = max(0.0, unit.cooldown - DT)
    if unit.shield_wait > 0:
        unit.shield_wait = max(0.0, unit.shield_wait - DT)
    if unit.shield_wait == 0 and unit.shield < unit.max_shield:
        unit.shield = min(unit.shield + SHIELD_REGEN, unit.max_shield)
    if unit.energy < unit.max_energy:
        unit.energy = min(unit.energy + ENERGY_REGEN, unit.max_energy)
    if unit.hp_regen > 0 and unit.hp < unit.max_hp:
        unit.hp = min(unit.hp + unit.hp_regen, unit.max_hp)

    if unit.order == STOP:
        unit.target = NOBODY
    target = NOBODY
    if unit.order == TARGET:
        target = unit.order_target
    elif unit.order == MARCH:
        target = unit.target
    if target == NOBODY or not unit.attacking:
        return 0.0
    unit.attacking = False
    if unit.cooldown > 0:
        return 0.0
    unit.cooldown = unit.max_cooldown
    return fire(units, unit, units[target], world)


@inlined
def tick(units, world, turns, scratch):
    """One tick (section 8); returns the unscaled reward.

    `turns` lists the living units in the order of part F.
    """
    n_units = units.shape[0]
    any_seeker = any_allied_healer = False
    for u in range(n_units):  # A
        unit = units[u]
        unit.start_x, unit.start_y = unit.x, unit.y
        if unit.alive:
            clean_up_target(units, u)
    for u in range(n_units):  # B
        unit = units[u]
        if unit.alive:
            any_seeker |= not unit.is_ally and unit.attack != HEAL and unit.target == NOBODY
            any_allied_healer |= unit.is_ally and unit.attack == HEAL
    for u in range(n_units):  # C
        if units[u].alive:
            choose_preferred_velocity(units, u, world, any_seeker, any_allied_healer)
    take_places(units, scratch)
    for u in range(n_units):  # D
        unit = units[u]
        unit.new_x = unit.new_y = 0.0
        if unit.alive and (unit.pref_x != 0 or unit.pref_y != 0):
            unit.new_x, unit.new_y = new_velocity(units, u, world, scratch)
    reward = 0.0
    for n in range(turns.shape[0]):  # F
        unit = units[turns[n]]
        if unit.hp > 0:
            reward += update(units, unit, world)
    for u in range(n_units):  # G
        if units[u].hp == 0:
            units[u].alive = False
    return reward


@inlined
def next_random(battle):
    """The next 32 random bits of the battle: SplitMix64 (Steele, Lea and Flood, 2014)."""
    battle.random += np.uint64(0x9E3779B97F4A7C15)
    z = battle.random
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (z ^ (z >> np.uint64(31))) >> np.uint64(32)


@inlined
def random_below(battle, n):
    """A random whole number from 0 to n - 1."""
    return np.int64((next_random(battle) * np.uint64(n)) >> np.uint64(32))


@inlined
def shuffle(units, battle, turns):
    """Fill `turns` with a uniformly random permutation of the living units (part E).

    Returns the number of living units.
    """
    count = 0
    for u in range(units.shape[0]):
        if units[u].alive:
            turns[count] = u
            count += 1
    for i in range(count - 1, 0, -1):
        j = random_below(battle, i + 1)
        turns[i], turns[j] = turns[j], turns[i]
    return count


@inlined
def count_living(units):
    allies = enemies = 0
    for u in range(units.shape[0]):
        if units[u].alive:
            if units[u].is_ally:
                allies += 1
            else:
                enemies += 1
    return allies, enemies


@inlined
def max_reward(units):
    """The unscaled reward for killing all enemies of this battle (section 5)."""
    total = WIN_REWARD
    for u in range(units.shape[0]):
        unit = units[u]
        if not unit.is_ally:
            total += KILL_REWARD + unit.max_hp + unit.max_shield
    return total


@inlined
def finish_step(units, battle, rules, reward):
    """Reward and end of the episode (section 12), and the time limit."""
    allies, enemies = count_living(units)
    if enemies == 0:
        reward += WIN_REWARD
    battle.reward = reward * REWARD_SCALE / max_reward(units)
    battle.steps += 1
    battle.terminated = allies == 0 or enemies == 0
    battle.truncated = not battle.terminated and battle.steps >= rules.time_limit
    battle.won = enemies == 0
    battle.over = battle.terminated or battle.truncated
