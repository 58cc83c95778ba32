/** JSON that is the same for the same value, whatever the order of its keys. Pure. */

/** JSON with sorted keys and without absent ones: the API server gives keys back in another order. */
export function stableJson(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) =>
    typeof inner === 'object' && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  );
}
