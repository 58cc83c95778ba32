/** Several changes of one object, put together so that they are made at once or not at all. Pure. */
import type { ObjectRef, PatchIntent } from '../../execution/plan.ts';

type Body = Readonly<Record<string, unknown>>;

/** One patch for each object, in the order in which they came first. Of two values for one field the later holds. */
export function mergePatches(...lists: readonly (readonly PatchIntent[])[]): PatchIntent[] {
  const merged = new Map<string, PatchIntent>();
  for (const intent of lists.flat()) {
    const { target, patch } = intent;
    const key = `${target.kind} ${target.namespace ?? ''}/${target.name}`;
    const known = merged.get(key);
    merged.set(
      key,
      known === undefined ? intent : { target: stricter(known.target, target), patch: merge(known.patch, patch) },
    );
  }
  return [...merged.values()];
}

/** Only as both have seen it. */
function stricter(a: ObjectRef, b: ObjectRef): ObjectRef {
  const resourceVersion = a.resourceVersion ?? b.resourceVersion;
  return { ...a, ...b, ...(resourceVersion === undefined ? {} : { resourceVersion }) };
}

function merge(a: Body, b: Body): Body {
  const both = Object.entries(b).map(([key, value]) => {
    const mine = a[key];
    return [key, isObject(mine) && isObject(value) ? merge(mine, value) : value];
  });
  return { ...a, ...(Object.fromEntries(both) as Body) };
}

function isObject(value: unknown): value is Body {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
