/**
 * Which slot a request gets, and how much of its prompt is there already. Pure policy over what the slots hold.
 */
import type { Token } from './decoder.ts';

/** What the policy sees of a slot. */
export interface SlotView {
  readonly id: number;
  /** Tokens whose keys and values the slot holds. */
  readonly tokens: readonly Token[];
  readonly busy: boolean;
  /** Any growing number; 0 for a slot that was never used. */
  readonly lastUsed: number;
}

export interface SlotChoice {
  readonly slot: number;
  /** Tokens of the prompt that need no computing. */
  readonly reuse: number;
  /** Slot to copy those tokens from, when they are not in `slot` itself. */
  readonly copyFrom?: number;
}

/**
 * A copy of some hundred tokens costs a few milliseconds and computing 32 tokens at least 60 on a CPU; below that a
 * longer prefix elsewhere is not worth the copy, nor the loss of what the chosen slot holds.
 */
export const WORTHWHILE = 32;

/** Length of the common prefix. */
export function commonPrefix(a: readonly Token[], b: readonly Token[]): number {
  const end = Math.min(a.length, b.length);
  let length = 0;
  while (length < end && a[length] === b[length]) length++;
  return length;
}

/**
 * Picks a free slot for `prompt`: the one that holds the longest prefix of it, else the one whose loss matters least.
 * @returns undefined when every slot is busy.
 */
export function chooseSlot(slots: readonly SlotView[], prompt: readonly Token[]): SlotChoice | undefined {
  const free = slots.filter((slot) => !slot.busy);
  if (free.length === 0) return undefined;
  // The last token of a prompt is always computed: its logits are what the first sampled token comes from.
  const usable = (slot: SlotView) => Math.min(commonPrefix(slot.tokens, prompt), prompt.length - 1);
  const own = new Map(free.map((slot) => [slot, usable(slot)]));
  const busy = slots.filter((slot) => slot.busy).map((slot) => slot.id);
  const longest = Math.max(...own.values());

  // Keeping a slot's content only counts when it saves something; otherwise any slot will do, and order decides:
  // few runs of live ids (llama.cpp computes neighbouring sequences together), then the least recently used.
  const candidates = longest >= WORTHWHILE ? free.filter((slot) => own.get(slot) === longest) : free;
  const chosen = candidates.reduce((best, slot) => {
    const gaps = runs([...busy, slot.id]) - runs([...busy, best.id]);
    if (gaps !== 0) return gaps < 0 ? slot : best;
    return slot.lastUsed < best.lastUsed ? slot : best;
  });

  const inPlace = own.get(chosen) ?? 0;
  let source: SlotView | undefined;
  let reuse = inPlace;
  for (const slot of slots) {
    if (slot === chosen) continue;
    const length = usable(slot);
    if (length >= inPlace + WORTHWHILE && length > reuse) {
      source = slot;
      reuse = length;
    }
  }
  return source ? { slot: chosen.id, reuse, copyFrom: source.id } : { slot: chosen.id, reuse };
}

/** Number of runs of consecutive ids. */
function runs(ids: readonly number[]): number {
  const sorted = [...ids].sort((a, b) => a - b);
  return sorted.filter((id, index) => index === 0 || sorted[index - 1] !== id - 1).length;
}
