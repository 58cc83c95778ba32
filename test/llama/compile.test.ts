import { describe, expect, it } from 'vitest';
import { type Compilation, contentName } from './compile.ts';

const compilation: Compilation = {
  name: 'thing',
  settings: { GGML_NATIVE: 'OFF' },
  patches: ['a.patch'],
  targets: ['thing'],
  keep: ['bin/thing'],
  native: false,
  cost: 1,
};
const inputs = { source: '3.22.1', patches: ['diff'], processor: 'flags: avx512f' };
const name = contentName(compilation, inputs);

describe('the name of what is compiled', () => {
  it('begins with what it is', () => {
    expect(name).toMatch(/^thing-[0-9a-f]{12}$/);
  });

  it.each([
    ['another release of the source', compilation, { ...inputs, source: '3.22.2' }],
    ['a changed patch', compilation, { ...inputs, patches: ['other diff'] }],
    ['another setting', { ...compilation, settings: { GGML_NATIVE: 'ON' } }, inputs],
    ['another target', { ...compilation, targets: ['other'] }, inputs],
  ])('is another one for %s', (_, changed, given) => {
    expect(contentName(changed, given)).not.toBe(name);
  });

  it('holds on other processors, unless it is compiled for this one', () => {
    const elsewhere = { ...inputs, processor: 'flags: avx2' };
    expect(contentName(compilation, elsewhere)).toBe(name);
    const native = { ...compilation, native: true };
    expect(contentName(native, elsewhere)).not.toBe(contentName(native, inputs));
  });
});
