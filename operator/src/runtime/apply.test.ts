import { beforeEach, describe, expect, it } from 'vitest';
import type { ApplyOptions } from '../kube/client.ts';
import { ApiError } from '../kube/errors.ts';
import { defineResource, type KubeObject } from '../kube/resource.ts';
import { type Applier, makeApplier, project } from './apply.ts';

interface Widget extends KubeObject {
  readonly spec?: unknown;
  readonly status?: unknown;
}
const Widget = defineResource<Widget>({
  group: 'example.com',
  version: 'v1',
  plural: 'widgets',
  kind: 'Widget',
  namespaced: true,
});

const metadata = { name: 'a', namespace: 'ns' };

/** A server that stores what is applied after `normalize`, and counts. */
let writes: string[];
let stored: Widget | undefined;
let normalize: (object: Widget) => Widget;
let version: number;
let applier: Applier;

function store(object: Widget): Widget {
  version += 1;
  stored = { ...object, metadata: { ...object.metadata, uid: 'u', resourceVersion: String(version) } };
  return stored;
}

function write(name: string, object: KubeObject, options: ApplyOptions | undefined): Widget {
  writes.push(`${name} as ${options?.fieldManager} force ${options?.force}`);
  const next = normalize({ ...stored, ...object, metadata: { ...stored?.metadata, ...object.metadata } });
  const same = JSON.stringify(next) === JSON.stringify(stored);
  return same && stored !== undefined ? stored : store(next);
}

beforeEach(() => {
  writes = [];
  stored = undefined;
  version = 0;
  normalize = (object) => object;
  applier = newApplier();
});

/** One more process: it knows nothing of what others applied. */
function newApplier(stamp?: string): Applier {
  return makeApplier({
    fieldManager: 'test',
    stamp,
    client: {
      apply: (_type, object, options) => Promise.resolve(write('apply', object, options) as never),
      applyStatus: (_type, object, options) => {
        if (stored === undefined) {
          return Promise.reject(new ApiError({ status: 404, reason: 'NotFound', message: 'gone', request: 'x' }));
        }
        return Promise.resolve(write('status', object, options) as never);
      },
      delete: (_type, _ref, options) => {
        writes.push(`delete ${options?.preconditions?.uid}`);
        if (stored !== undefined) return Promise.resolve();
        return Promise.reject(new ApiError({ status: 404, reason: 'NotFound', message: 'gone', request: 'x' }));
      },
    },
  });
}

describe('apply', () => {
  it('writes once, and not again while the object holds what was asked for', async () => {
    const desired = { metadata, spec: { size: 1 } };
    expect(await applier.apply(Widget, desired, undefined)).toMatchObject({ written: true });
    expect(await applier.apply(Widget, { ...desired }, stored)).toMatchObject({ written: false, object: stored });
    expect(writes).toEqual(['apply as test force true']);
  });

  it('writes when the desired state changes, also when a field is left out', async () => {
    await applier.apply(Widget, { metadata, spec: { size: 1, color: 'red' } }, undefined);
    expect(await applier.apply(Widget, { metadata, spec: { size: 1 } }, stored)).toMatchObject({ written: true });
  });

  it('writes when somebody changed a field of ours, not when they added one of theirs', async () => {
    const desired = { metadata, spec: { size: 1 } };
    await applier.apply(Widget, desired, undefined);
    store({ ...stored, metadata: { ...stored?.metadata, labels: { theirs: 'x' } }, spec: { size: 1, other: true } });
    expect(await applier.apply(Widget, desired, stored)).toMatchObject({ written: false });
    store({ ...stored, spec: { size: 2 } });
    expect(await applier.apply(Widget, desired, stored)).toMatchObject({ written: true });
  });

  it('is not led into writing for ever by a server that spells values its own way', async () => {
    normalize = (object) => ({ ...object, spec: { cpu: '1', defaulted: true } });
    const desired = { metadata, spec: { cpu: '1000m', empty: {} } };
    await applier.apply(Widget, desired, undefined);
    for (let i = 0; i < 3; i++) await applier.apply(Widget, desired, stored);
    expect(writes).toHaveLength(1);
  });

  it('does not repeat itself while the store has not caught up with the last write', async () => {
    const before = store({ metadata, spec: { size: 1 } });
    await applier.apply(Widget, { metadata, spec: { size: 2 } }, before);
    expect(await applier.apply(Widget, { metadata, spec: { size: 2 } }, before)).toMatchObject({ written: false });
    expect(writes).toHaveLength(1);
  });

  it('writes again when the object was deleted and made again', async () => {
    const desired = { metadata, spec: { size: 1 } };
    await applier.apply(Widget, desired, undefined);
    const twin = { ...stored, metadata: { ...stored?.metadata, uid: 'other' } };
    expect(await applier.apply(Widget, desired, twin)).toMatchObject({ written: true });
    expect(await applier.apply(Widget, desired, undefined)).toMatchObject({ written: true });
  });

  it('leaves the fields of others alone where the caller says so', async () => {
    await applier.apply(Widget, { metadata }, undefined, { force: false });
    expect(writes).toEqual(['apply as test force false']);
  });
});

describe('the stamp of another process', () => {
  const stamp = 'example.com/applied';
  const desired = { metadata: { ...metadata, annotations: { own: 'yes' } }, spec: { size: 1, color: 'red' } };
  const live = (change: (object: Widget) => Widget = (object) => object) => store(change(stored ?? {}));
  beforeEach(() => newApplier(stamp).apply(Widget, desired, undefined));

  it('saves a write: nothing is written by a process that finds everything as it wants it', async () => {
    expect(stored?.metadata?.annotations).toEqual({ own: 'yes', [stamp]: expect.any(String) as string });
    expect(await newApplier(stamp).apply(Widget, desired, stored)).toMatchObject({ written: false });
    expect(writes).toHaveLength(1);
  });

  it.each<[string, (object: Widget) => Widget, boolean]>([
    ['a field of ours was changed', (object) => ({ ...object, spec: { size: 2, color: 'red' } }), true],
    ['a field of ours is gone', (object) => ({ ...object, spec: { size: 1 } }), true],
    ['the stamp is gone', (object) => ({ ...object, metadata: { ...metadata, annotations: { own: 'yes' } } }), true],
    ['others added something', (object) => ({ ...object, spec: { size: 1, color: 'red', theirs: true } }), false],
  ])('when %s meanwhile', async (_, change, written) => {
    expect(await newApplier(stamp).apply(Widget, desired, live(change))).toMatchObject({ written });
  });

  it('of a request that asked for more leads to a write, so that the server takes away what is asked for no longer', async () => {
    const less = { ...desired, spec: { size: 1 } };
    expect(await newApplier(stamp).apply(Widget, less, stored)).toMatchObject({ written: true });
    expect(await newApplier(stamp).apply(Widget, less, stored)).toMatchObject({ written: false });
  });

  it('costs one write where the server spells values its own way, and no more', async () => {
    normalize = (object) => ({ ...object, spec: { cpu: '1' } });
    const spelled = { metadata, spec: { cpu: '1000m' } };
    await newApplier(stamp).apply(Widget, spelled, stored);
    const second = newApplier(stamp);
    writes = [];
    for (let i = 0; i < 3; i++) await second.apply(Widget, spelled, stored);
    expect(writes).toHaveLength(1);
  });

  it('on a store that lags behind our own write proves nothing', async () => {
    const before = stored;
    const own = newApplier(stamp);
    await own.apply(Widget, { ...desired, spec: { size: 5 } }, before);
    expect(await own.apply(Widget, desired, before)).toMatchObject({ written: true });
  });
});

it('knows what it has applied, and can insist on making something new', async () => {
  expect(applier.remembers(Widget, { metadata })).toBe(false);
  let sent: KubeObject | undefined;
  normalize = (object) => {
    sent = object;
    return object;
  };
  await applier.apply(Widget, { metadata }, undefined, { mustBeNew: true });
  expect(applier.remembers(Widget, { metadata })).toBe(true);
  expect(sent?.metadata?.resourceVersion).toBe('1');
});

describe('status', () => {
  it('is written when it differs, and not when it is equal, whatever the order of its fields', async () => {
    const live = store({ metadata, status: { a: 1, b: [1, 2] } });
    expect(await applier.writeStatusIfChanged(Widget, live, { b: [1, 2], a: 1 })).toMatchObject({ written: false });
    expect(await applier.writeStatusIfChanged(Widget, live, { b: [2, 1], a: 1 })).toMatchObject({ written: true });
    expect(await applier.writeStatusIfChanged(Widget, live, { b: [2, 1], a: 1 })).toMatchObject({ written: false });
    expect(writes).toEqual(['status as test force true']);
  });

  it('is written when a field has to go', async () => {
    const live = store({ metadata, status: { a: 1, old: true } });
    expect(await applier.writeStatusIfChanged(Widget, live, { a: 1 })).toMatchObject({ written: true });
  });

  it('is written again when it goes back to what a store that lags behind still shows', async () => {
    const live = store({ metadata, status: { a: 1 } });
    expect(await applier.writeStatusIfChanged(Widget, live, { a: 2 })).toMatchObject({ written: true });
    expect(await applier.writeStatusIfChanged(Widget, live, { a: 1 })).toMatchObject({ written: true });
    expect(stored?.status).toEqual({ a: 1 });
    expect(await applier.writeStatusIfChanged(Widget, live, { a: 1 })).toMatchObject({ written: false });
  });

  it('of an object that is gone is no error', async () => {
    const live = store({ metadata });
    stored = undefined;
    expect(await applier.writeStatusIfChanged(Widget, live, { a: 1 })).toBeUndefined();
  });
});

describe('delete', () => {
  it('names the very object, and takes no offence when it is gone', async () => {
    const live = store({ metadata });
    expect(await applier.delete(Widget, live)).toBe(true);
    stored = undefined;
    expect(await applier.delete(Widget, live)).toBe(false);
    expect(writes).toEqual(['delete u', 'delete u']);
  });
});

describe('the compared part of an object', () => {
  it.each<[string, unknown, unknown, unknown]>([
    ['is what desired names', { a: 1, b: 2 }, { a: 0 }, { a: 1 }],
    ['goes to any depth', { a: { b: 1, c: 2 } }, { a: { b: 0 } }, { a: { b: 1 } }],
    ['shows what is missing', {}, { a: { b: 0 } }, { a: undefined }],
    [
      'pairs items by their identity',
      [{ name: 'x', v: 1, w: 2 }, { name: 'y' }],
      [{ name: 'x', v: 0 }],
      [{ name: 'x', v: 1 }],
    ],
    ['shows a missing item', [{ name: 'y' }], [{ name: 'x' }], [[]]],
    ['takes lists without identity whole', [3, 1, 2], [1, 2], [3, 1, 2]],
    [
      'takes lists with doubtful identity whole',
      [{ port: 1 }, { port: 1 }],
      [{ port: 1 }, { port: 1 }],
      [{ port: 1 }, { port: 1 }],
    ],
    ['shows another type', 'text', { a: 1 }, 'text'],
  ])('%s', (_name, live, desired, expected) => {
    expect(project(live, desired)).toEqual(expected);
  });
});
