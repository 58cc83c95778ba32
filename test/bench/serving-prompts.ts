/** Prompts for the benchmark `serving`: words without sense, the same for every server and different in every run. Pure. */
import type { Ask } from './serving-load.ts';

const WORDS =
  'time person year way day thing man world life hand part child eye woman place work week case point company number group problem fact river mountain ocean robot garden market engine signal winter summer bridge castle forest window letter doctor teacher music picture story planet dragon silver golden broken hidden silent bright ancient modern little famous curious gentle'.split(
    ' ',
  );

export interface Prompts {
  /** Words; the same ones for the same key. */
  words(key: string, count: number): string;
  /** A task of about `count` words. */
  story(key: string, index: number, count: number): string;
  /** Several of them. */
  stories(key: string, length: number, count: number, maxTokens: number): Ask[];
}

/** @param seed another one gives other prompts, so that no cache knows them */
export function makePrompts(seed: string): Prompts {
  const words = (key: string, count: number) => {
    const random = generator(hash(`${seed} ${key}`));
    return Array.from({ length: count }, () => WORDS[random() % WORDS.length]).join(' ');
  };
  const story = (key: string, index: number, count: number) =>
    // The words come first: prompts that begin alike would be spared each other's work.
    `${words(`${key} ${index}`, count)}. Write a long story that uses these words.`;
  return {
    words,
    story,
    stories: (key, length, count, maxTokens) =>
      Array.from({ length }, (_, index) => ({ prompt: story(key, index, count), maxTokens })),
  };
}

/** FNV-1a. */
function hash(text: string): number {
  let state = 0x811c9dc5;
  for (const byte of Buffer.from(text)) state = Math.imul(state ^ byte, 0x01000193) >>> 0;
  return state;
}

/** Mulberry32: whole numbers that repeat for the same seed. */
function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (mixed ^ (mixed >>> 14)) >>> 0;
  };
}
