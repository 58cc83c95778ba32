/**
 * Which pods of a deployment belong on which hardware: from what each tier has and has room for to how many pods of the wanted
 * revision it should have. Pure; knows numbers and names, no node and no Kubernetes object. When pods move, and in which
 * order, is the rollout planner's.
 *
 * Pods stay where they are, unless they cannot run there or `promoteBack` moves them. What is missing goes to the best tier
 * with room; nothing is sent where it would not fit. Every decision is computed from what is, plus a few times kept in
 * status, so that it is the same after a restart and may be computed twice.
 */
import { failureMark, mayPass, retryAt, retryOf } from './placement-failures.ts';
import { fallsBack, noRoom, unable, waitsFor } from './placement-sentences.ts';
import { patienceOf, SETTLE_MS, Slot } from './placement-slot.ts';
import type { Obstacle, PlacementInput, PlacementPlan, TierPlan } from './placement-types.ts';

/** Room on better hardware must have lasted this long before a pod moves back; `fallbackAfter` when that is shorter. */
const PROMOTE_AFTER_MS = 60_000;
/** The plan. Nothing to do gives targets as they are. */
export function planPlacement(input: PlacementInput): PlacementPlan {
  const draft = new Draft(input);
  draft.keep();
  draft.fill();
  draft.giveBack();
  draft.promote();
  return draft.result();
}

class Draft {
  readonly #input: PlacementInput;
  readonly #slots: readonly Slot[];
  readonly #notes: string[] = [];
  readonly #hold = new Map<string, string>();
  readonly #wakes: number[] = [];
  #missing = 0;
  #promoting: PlacementPlan['promoting'];

  constructor(input: PlacementInput) {
    this.#input = input;
    const tiers = input.policy === 'Never' ? input.tiers.filter((tier) => tier.rank === 0) : input.tiers;
    this.#slots = tiers.map((tier) => new Slot(tier, input));
  }

  /** Pods stay, but those that could not run for too long, and those beyond `replicas`: the worst hardware is left first. */
  keep(): void {
    for (const slot of this.#slots) {
      if (!slot.givenUp && !slot.failed) continue;
      slot.withdrawn = slot.stuck;
      slot.target -= slot.withdrawn;
    }
    let surplus = this.#total() - this.#input.replicas;
    const worstFirst = this.#slots.toReversed();
    if (this.#promotion() === undefined) {
      for (const slot of worstFirst) {
        const going = Math.min(surplus, slot.stuck - slot.withdrawn);
        if (going <= 0) continue;
        slot.target -= going;
        surplus -= going;
      }
    }
    for (const slot of worstFirst) {
      const going = Math.min(surplus, slot.target);
      if (going <= 0) continue;
      slot.target -= going;
      surplus -= going;
    }
    this.#missing = Math.max(0, this.#input.replicas - this.#total());
  }

  /** What is missing goes to the best tier with room, as far down the line as waiting allows. */
  fill(): void {
    const { now, auto, fallbackAfterMs } = this.#input;
    const ranks = [...new Set(this.#slots.map((slot) => slot.state.rank))];
    // All clocks start together: a pod waits for `fallbackAfter` in all, not once for each kind of hardware.
    let lacking = this.#missing;
    let reachable = true;
    for (const rank of ranks) {
      const slots = this.#slots.filter((slot) => slot.state.rank === rank);
      for (const slot of slots) {
        lacking = Math.max(0, lacking - slot.spare);
        if (reachable) this.#place(slot);
      }
      if (lacking > 0) this.#startWaiting(slots);
      if (this.#missing === 0 || !reachable || auto) continue;
      const known = slots.filter((slot) => !slot.failed).map((slot) => slot.waitingSince ?? now);
      const until = known.length === 0 ? now : Math.min(...known) + fallbackAfterMs;
      if (until > now) {
        reachable = false;
        if (rank !== ranks.at(-1)) this.#wakes.push(until - now);
      }
    }
  }

  #place(slot: Slot, spare = slot.spare): void {
    const taken = Math.min(this.#missing, spare);
    if (taken <= 0) return;
    slot.target += taken;
    this.#missing -= taken;
    this.#notes.push(`${slot.state.name}: ${taken} more ${taken === 1 ? 'belongs' : 'belong'} here`);
  }

  #startWaiting(slots: readonly Slot[]): void {
    if (this.#input.auto) return;
    // Pods that were given up have waited already, for whatever they may go to.
    const givenUp = this.#slots.flatMap(({ withdrawn, shortSince = [] }) => (withdrawn > 0 ? shortSince : []));
    const since = Math.min(this.#input.now, ...givenUp);
    for (const slot of slots) slot.waitingSince = slot.state.waitingSince ?? (slot.givenUp ? slot.shortSince : since);
  }

  /** Stuck pods for which there is no other place stay: they may yet run, and gone they surely would not. */
  giveBack(): void {
    // Old pods and stuck ones together may leave no place for any that could run.
    const isPressed = this.#input.rolling && this.#slots.some((slot) => slot.target > slot.state.desired);
    for (const slot of this.#slots) {
      const back = isPressed ? 0 : Math.min(this.#missing, slot.withdrawn);
      slot.target += back;
      slot.withdrawn -= back;
      this.#missing -= back;
      if (slot.withdrawn > 0) {
        this.#notes.push(
          `${slot.state.name}: ${slot.withdrawn} fewer, ${slot.state.stuck?.message ?? 'they are stuck'}`,
        );
      }
    }
    // With nowhere else to go, what is left may as well try: not all devices need be bad.
    for (const slot of this.#slots) {
      if (slot.givenUp && !slot.failed && slot.withdrawn === 0) this.#place(slot, slot.capacity - slot.target);
    }
  }

  /** The tier to which a pod is on its way from worse hardware. */
  #promotion(): Slot | undefined {
    if (this.#input.promoteBack !== 'WhenIdle' || this.#input.rolling) return undefined;
    return this.#slots.find(
      (slot) => slot.state.promotingSince !== undefined && !slot.failed && !slot.givenUp && slot.state.desired > 0,
    );
  }

  /** One pod at a time: first one more on the better tier, and only when that serves one fewer on the worst, if it is idle. */
  promote(): void {
    const { replicas, rolling, promoteBack, now } = this.#input;
    if (promoteBack !== 'WhenIdle' || rolling) return;
    const desired = this.#slots.reduce((sum, slot) => sum + slot.state.desired, 0);
    const underway = this.#promotion();
    if (underway !== undefined && desired === replicas + 1) {
      const from = this.#slots.findLast((slot) => slot.target < slot.state.desired);
      if (from === undefined || from === underway) return;
      underway.promotingSince = underway.state.promotingSince;
      this.#promoting = { from: from.state.name, to: underway.state.name };
      this.#holdBack(from, underway);
      return;
    }
    const from = this.#slots.findLast((slot) => slot.target > 0);
    if (from === undefined || this.#missing > 0 || desired !== replicas) return;
    const mayTry = (slot: Slot) => this.#input.maxSurge !== 0 || slot.state.failedOn === undefined;
    const to = this.#slots.find(
      (slot) => slot.state.rank < from.state.rank && slot.spare > 0 && !slot.shortSince && mayTry(slot),
    );
    if (to === undefined) return;
    to.freeSince = to.state.freeSince ?? now;
    const hold = Math.max(SETTLE_MS, Math.min(PROMOTE_AFTER_MS, this.#input.fallbackAfterMs));
    const settled = this.#slots.every(({ state }) => state.current === state.desired) && to.stuck === 0;
    if (now - to.freeSince < hold) this.#wakes.push(to.freeSince + hold - now);
    else if (settled && to.state.available >= to.state.desired && (from.state.idlePods ?? 0) > 0) {
      to.target++;
      from.target--;
      to.promotingSince = now;
      to.freeSince = undefined;
      this.#promoting = { from: from.state.name, to: to.state.name };
      this.#holdBack(from, to);
      this.#notes.push(`${to.state.name}: 1 more, there is room for one from ${from.state.name}`);
    }
  }

  #holdBack(from: Slot, to: Slot): void {
    const starting = to.state.desired < to.target || to.state.available < to.target;
    const why = starting
      ? `its pods stay until the one on ${to.state.name} serves`
      : (from.state.idlePods ?? 0) === 0
        ? 'its pods stay until one of them is idle'
        : undefined;
    if (why !== undefined) this.#hold.set(from.state.name, why);
  }

  #total(): number {
    return this.#slots.reduce((sum, slot) => sum + slot.target, 0);
  }

  result(): PlacementPlan {
    const { tiers, replicas } = this.#input;
    const targets = new Map(tiers.map((tier) => [tier.name, 0]));
    const plans = new Map<string, TierPlan>(tiers.map((tier) => [tier.name, {}]));
    for (const slot of this.#slots) {
      targets.set(slot.state.name, slot.target);
      plans.set(slot.state.name, this.#planOf(slot));
    }
    for (const slot of this.#slots) {
      if (slot.shortSince === undefined || slot.givenUp) continue;
      this.#wakes.push(slot.shortSince + patienceOf(this.#input) - this.#input.now);
    }
    for (const slot of this.#slots) {
      const at = slot.failed ? retryAt(slot.state) : undefined;
      if (at !== undefined && at > this.#input.now) this.#wakes.push(at - this.#input.now);
    }
    if (this.#missing > 0) this.#notes.push(`${this.#missing} of ${replicas} wait`);
    return {
      targets,
      waiting: this.#missing,
      tiers: plans,
      hold: this.#hold,
      promoting: this.#promoting,
      blocked: this.#blocked(),
      requeueAfter: this.#wakes.length === 0 ? undefined : Math.max(1, Math.min(...this.#wakes)),
      notes: this.#notes,
    };
  }

  #planOf(slot: Slot): TierPlan {
    const { replicas } = this.#input;
    const { state } = slot;
    const atLeastAsGood = this.#slots
      .filter((other) => other.state.rank <= state.rank)
      .reduce((sum, other) => sum + other.target, 0);
    const failed = this.#failureOf(slot, atLeastAsGood);
    // Kept while a pod is on worse hardware: it has fallen back, and the next one need not wait again.
    const since = slot.waitingSince ?? (this.#input.auto ? undefined : state.waitingSince);
    const waitingSince = atLeastAsGood < replicas ? since : undefined;
    const message = this.#messageOf(slot, atLeastAsGood);
    return {
      ...(waitingSince === undefined ? {} : { waitingSince }),
      ...(slot.shortSince === undefined ? {} : { shortSince: slot.shortSince }),
      ...(slot.freeSince === undefined ? {} : { freeSince: slot.freeSince }),
      ...(slot.promotingSince === undefined ? {} : { promotingSince: slot.promotingSince }),
      ...failed,
      ...(message === undefined ? {} : { message }),
    };
  }

  /** Since when no pod is sent here, or none was before the try that is under way. */
  #failureOf(slot: Slot, atLeastAsGood: number): TierPlan {
    const { state } = slot;
    if (slot.withdrawn > 0 && !slot.failed) return { failedSince: this.#input.now, failedOn: failureMark(state) };
    const { failedSince, failedOn } = state;
    if (slot.failed) return { failedSince, failedOn };
    // A try may fail like the one before; over it is when pods run here, and none is on worse hardware.
    const isOver = slot.isSettled && slot.target === state.desired && atLeastAsGood >= this.#input.replicas;
    return retryOf(state) === undefined || isOver ? {} : { failedSince, failedOn };
  }

  /** What waits, and until when or for what. */
  #blocked(): Obstacle[] {
    const found: Obstacle[] = [];
    for (const slot of this.#slots) {
      const leaving = slot.withdrawn > 0 || slot.failed;
      if (slot.shortSince === undefined || slot.stuck === 0 || slot.state.stuck === undefined || leaving) continue;
      const { reason, message, pods } = slot.state.stuck;
      found.push({ reason, message: this.#outlook(slot, message, pods) });
    }
    // The best hardware speaks for all: it is what the pods wait for.
    const best = this.#slots.find((slot) => !slot.failed);
    if (this.#missing > 0 && best !== undefined) {
      const { reason, message } = noRoom(best.state);
      found.push({ reason, message: this.#outlook(best, message, this.#missing) });
    }
    const [first] = this.#slots;
    if (this.#missing > 0 && best === undefined && first !== undefined) {
      found.push({ reason: 'WaitingForDevice', message: first.state.message ?? noRoom(first.state).message });
    }
    return found;
  }

  #messageOf(slot: Slot, atLeastAsGood: number): string | undefined {
    const { state } = slot;
    const { replicas } = this.#input;
    if (slot.failed) return state.message;
    if (slot.withdrawn > 0 && state.stuck !== undefined) return unable(state.stuck.message, mayPass(state));
    if (slot.stuck > 0 && state.stuck !== undefined) return this.#outlook(slot, state.stuck.message, slot.stuck);
    if (this.#promoting?.to === state.name) {
      const why = this.#hold.get(this.#promoting.from);
      return `a pod comes back from ${this.#promoting.from}${why === undefined ? '' : `; ${why}`}`;
    }
    if (slot.freeSince !== undefined) return 'has room again; a pod comes back when one on worse hardware is idle';
    if (atLeastAsGood >= replicas) return undefined;
    // Nobody tries, so nothing is known that was not before.
    if (retryOf(state) !== undefined && slot.target === state.desired && this.#missing === 0) return state.message;
    if (slot.spare > 0) {
      return this.#input.auto
        ? undefined
        : 'has room again; pods stay where they are, because hardware.promoteBack is Never';
    }
    const { message } = noRoom(state);
    return this.#missing > 0 ? this.#outlook(slot, message, this.#missing) : message;
  }

  /** A reason to wait, with what comes of it. */
  #outlook(slot: Slot, message: string, waiting: number): string {
    const { policy, replicas, auto, now, fallbackAfterMs } = this.#input;
    const wait = { waiting, replicas };
    if (policy === 'Never') return waitsFor(message, wait, 'because hardware.policy is Never');
    const next = this.#slots.find((other) => other.state.rank > slot.state.rank && other.spare > 0);
    if (next === undefined) {
      const rest = this.#slots.filter((other) => other !== slot && other.state.rank >= slot.state.rank);
      const why = rest.map((other) =>
        other.failed
          ? `on ${other.state.name}: pods could not run`
          : `on ${other.state.name}: ${noRoom(other.state).message}`,
      );
      return [message, ...why].join('; ');
    }
    const better = this.#slots.filter((other) => other.state.rank < next.state.rank && !other.failed);
    const ends = better.map((other) =>
      other.shortSince === undefined
        ? (other.waitingSince ?? now) + fallbackAfterMs
        : other.shortSince + patienceOf(this.#input),
    );
    const afterMs = auto || slot.shortSince !== undefined ? patienceOf(this.#input) : fallbackAfterMs;
    return fallsBack(message, wait, { name: next.state.name, afterMs, at: Math.max(now, ...ends) });
  }
}
