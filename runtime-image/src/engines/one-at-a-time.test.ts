import { expect, test } from 'vitest';
import { OneAtATime } from './one-at-a-time.ts';

test('work begins at once when nothing runs, and in its turn when something does', async () => {
  const processor = new OneAtATime();
  const said: string[] = [];
  const work = (name: string, fails = false) =>
    processor.run(async () => {
      said.push(`${name} begins`);
      await Promise.resolve();
      said.push(`${name} ends`);
      if (fails) throw new Error(name);
      return name;
    });
  const first = work('a', true);
  expect(said).toEqual(['a begins']);
  const others = [work('b'), work('c')];
  await expect(first).rejects.toThrow('a');
  const late = work('d');
  expect(await Promise.all([...others, late])).toEqual(['b', 'c', 'd']);
  expect(said).toEqual(['a', 'b', 'c', 'd'].flatMap((name) => [`${name} begins`, `${name} ends`]));
});
