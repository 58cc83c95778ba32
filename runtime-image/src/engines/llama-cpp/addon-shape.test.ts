import { expect, test } from 'vitest';
import { missingParts } from './addon-shape.ts';
import { openLibrary } from './library.ts';

test('the addon that is installed has every part that we use', async () => {
  expect(missingParts((await openLibrary()).bindings)).toEqual([]);
});

test('what another release renamed is named', async () => {
  const { bindings } = await openLibrary();
  class Renamed {
    init() {
      return this;
    }
  }
  const other = Object.create(bindings, {
    AddonSampler: { value: Renamed },
    systemInfo: { value: undefined },
  }) as object;
  expect(missingParts(other)).toEqual(['AddonSampler.applyConfig', 'AddonSampler.dispose', 'systemInfo']);
});
