import { describe, expect, it } from 'vitest';
import { makeLiveBlock } from './live-block.ts';

function record(isTerminal: boolean) {
  const writes: string[] = [];
  const block = makeLiveBlock({ isTerminal, columns: () => 20, write: (text) => void writes.push(text) });
  return { block, writes };
}

describe('on a terminal', () => {
  it('draws in place, and only what changed', () => {
    const { block, writes } = record(true);
    block.show(['a', 'b']);
    block.show(['a', 'b']);
    block.show(['a', 'c']);
    expect(writes).toEqual(['\u001B[2Ka\n\u001B[2Kb\n', '\u001B[2A\u001B[2Ka\n\u001B[2Kc\n']);
  });

  it('clears what is left of a longer block, and cuts lines that would wrap', () => {
    const { block, writes } = record(true);
    block.show(['a', 'b']);
    block.show(['x'.repeat(30)]);
    expect(writes.at(-1)).toBe(`\u001B[2A\u001B[2K${'x'.repeat(19)}\n\u001B[J`);
  });

  it('begins below an ended block', () => {
    const { block, writes } = record(true);
    block.show(['a']);
    block.end();
    block.show(['b']);
    expect(writes.at(-1)).toBe('\u001B[2Kb\n');
  });
});

describe('without a terminal', () => {
  it('says a line again when its words change or another quarter is reached, not at every number', () => {
    const { block, writes } = record(false);
    for (const line of [
      'n1 ███─── 10%  1.0 MB/s',
      'n1 ███─── 20%  2.5 MB/s',
      'n1 ████── 26%  2 s left',
      'n1 ██████ verified',
    ])
      block.show([line]);
    expect(writes).toEqual(['n1 ███─── 10%  1.0 MB/s\n', 'n1 ████── 26%  2 s left\n', 'n1 ██████ verified\n']);
  });
});
