/** Choices of what happens next, for simulations. */

/** Picks one of `count` possibilities. */
export type Choose = (count: number) => number;

/** The same order every time: the cluster first, in turn, the controller when nothing else moves. */
export const inOrder: Choose = () => 0;

/** Choices that look random and come again with the same seed (mulberry32). */
export function seeded(seed: number): Choose {
  let state = seed >>> 0;
  return (count) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % count;
  };
}
