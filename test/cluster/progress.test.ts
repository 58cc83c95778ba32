import { describe, expect, it } from 'vitest';
import { duration, makeProgress } from './progress.ts';

function fakeOutput(isTerminal: boolean) {
  let text = '';
  let time = 0;
  return {
    output: { write: (part: string) => void (text += part), isTerminal, now: () => time, columns: () => 60 },
    text: () => text,
    advance: (milliseconds: number) => (time += milliseconds),
  };
}

describe('progress without a terminal', () => {
  it('prints what came of a step, with its own time and the time of all', () => {
    const { output, text, advance } = fakeOutput(false);
    const progress = makeProgress(output);
    advance(1000);
    const step = progress.step('building etcd (1 of 2)');
    advance(2500);
    step.done('from the cache');
    expect(text()).toBe('[   3.5 s] building etcd (1 of 2): from the cache (2.5 s)\n');
  });

  it('says every half minute how far a long step is', () => {
    const { output, text, advance } = fakeOutput(false);
    const step = makeProgress(output).step('building hyperkube');
    for (let count = 1; count <= 70; count += 1) {
      advance(1000);
      step.update(`${count} of 100 packages`, 200 - count);
    }
    expect(text()).toMatchInlineSnapshot(`
      "[  30.0 s] building hyperkube · 30 of 100 packages · 30.0 s · about 3 min left
      [  60.0 s] building hyperkube · 60 of 100 packages · 60.0 s · about 3 min left
      "
    `);
  });

  it('prints the end of a step once', () => {
    const { output, text } = fakeOutput(false);
    const step = makeProgress(output).step('once');
    step.done();
    step.done();
    expect(text().match(/once/g)).toHaveLength(1);
  });
});

describe('progress on a terminal', () => {
  it('keeps one living line, cut to the width, and puts finished lines above it', () => {
    const { output, text } = fakeOutput(true);
    const progress = makeProgress(output);
    const step = progress.step('a title that is much longer than what fits on a line of this terminal');
    progress.note('noted');
    step.done();
    const living = 'a title that is much longer than what fits on a line of thi';
    expect(text().split('\r\u001B[2K')).toEqual([
      living,
      `[   0.0 s] noted\n${living}`,
      '[   0.0 s] a title that is much longer than what fits on a line of this terminal (0.0 s)\n',
    ]);
  });
});

it.each([
  [0, '1 s'],
  [89, '89 s'],
  [90, '2 min'],
  [601, '11 min'],
])('%d seconds read as %s', (seconds, text) => {
  expect(duration(seconds)).toBe(text);
});
